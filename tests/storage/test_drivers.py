import logging
import os
import subprocess
import sys
from typing import Any

import fsspec
import pytest

from pfit_ray.config.storage import StorageConfig
from pfit_ray.errors import UserError
from pfit_ray.storage import drivers
from pfit_ray.storage.drivers import driver_options, open_system, options

ALL = StorageConfig(
    endpoint_url="https://store:9000", region="eu-west-1", anonymous=True, requester_pays=True, timeout_seconds=7.4
)


@pytest.fixture(autouse=True)
def _not_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drivers, "_options", None)


def mapped(protocol: str, config: StorageConfig) -> dict[str, Any]:
    return {name: value for name, value in driver_options(protocol, config).items() if name != "session"}


def test_s3() -> None:
    given = mapped("s3", ALL)
    assert given == {
        "anon": True,
        "requester_pays": True,
        "max_concurrency": 1,
        "endpoint_url": "https://store:9000",
        "client_kwargs": {"region_name": "eu-west-1"},
        "config_kwargs": {
            "connect_timeout": 7.4,
            "read_timeout": 7.4,
            "retries": {"mode": "standard", "total_max_attempts": 1},
        },
    }
    plain = mapped("s3a", StorageConfig())
    assert (plain["anon"], "endpoint_url" in plain, "client_kwargs" in plain) == (False, False, False)
    assert driver_options("s3", StorageConfig(profile="work"))["session"].profile == "work"


def test_google() -> None:
    assert mapped("gs", ALL) == {
        "token": "anon",
        "requester_pays": True,
        "requests_timeout": 7.4,
        "endpoint_url": "https://store:9000",
    }
    assert mapped("gcs", StorageConfig()) == {"requester_pays": False, "requests_timeout": 60.0}


def test_azure() -> None:
    assert mapped("abfs", ALL) == {
        "anon": True,
        "connection_timeout": 7,
        "read_timeout": 7,
        "account_host": "store:9000",
    }
    assert mapped("az", StorageConfig())["anon"] is False


@pytest.mark.parametrize(("module", "protocol"), [("gcsfs", "gs"), ("adlfs", "az")])
def test_the_driver_takes_its_options(monkeypatch: pytest.MonkeyPatch, module: str, protocol: str) -> None:
    pytest.importorskip(module)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    for config in (ALL, StorageConfig(anonymous=True)):
        drivers.configure(config)
        system, path = open_system(f"{protocol}://bucket/x")
        assert path == "bucket/x"
        assert system.__class__.__module__.startswith(module)


def test_one_driver_per_process_and_options() -> None:
    drivers.configure(ALL)
    first = open_system("s3://bucket/x")[0]
    assert open_system("s3://other/y")[0] is first
    drivers.configure(ALL.model_copy(update={"region": "eu-west-2"}))
    assert open_system("s3://bucket/x")[0] is not first


def test_chained_urls_reach_the_driver_below() -> None:
    drivers.configure(ALL)
    system, _ = open_system("simplecache::s3://bucket/x")
    assert system.fs.endpoint_url == "https://store:9000"
    assert isinstance(open_system("memory://x")[0], fsspec.get_filesystem_class("memory"))


def test_options_come_from_the_variable_until_they_are_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PFIT_RAY_STORAGE", '{"retries": 2}')
    assert options() == StorageConfig(retries=2)
    drivers.configure(StorageConfig(retries=3))
    assert options().retries == 3


def test_a_wrong_variable_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PFIT_RAY_STORAGE", '{"retries": "many"}')
    with pytest.raises(UserError, match="environment variable PFIT_RAY_STORAGE: retries Input should be"):
        options()


def test_a_forked_process_has_connections_of_its_own() -> None:
    drivers.configure(ALL)
    mine = driver_options("s3", ALL)["session"]
    other = drivers._s3_session(os.getpid() + 1, ALL)
    assert other is not mine


def test_others_that_use_a_driver_s_class_find_it_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    s3fs = pytest.importorskip("s3fs")
    pytest.importorskip("gcsfs")
    monkeypatch.delenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", raising=False)
    before = s3fs.S3FileSystem.retries, logging.getLogger("gcsfs").level
    drivers.configure(StorageConfig(anonymous=True))
    system, _ = open_system("s3://bucket/x")
    assert system.retries == 1
    open_system("gs://bucket/x")
    assert (s3fs.S3FileSystem.retries, logging.getLogger("gcsfs").level) == before
    assert s3fs.S3FileSystem(anon=True, skip_instance_cache=True).retries == before[0] > 1
    assert "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT" not in os.environ
    with drivers.quiet_drivers():
        assert logging.getLogger("gcsfs").level == logging.CRITICAL
    assert logging.getLogger("gcsfs").level == before[1]


def test_a_bucket_s_kind_is_never_asked_for_even_if_others_imported_the_driver_first() -> None:
    pytest.importorskip("gcsfs")
    program = """
import os
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "true"
import gcsfs, gcsfs.core
from pfit_ray.config.storage import StorageConfig
from pfit_ray.storage import drivers
drivers.configure(StorageConfig(anonymous=True))
for url in ("gs://bucket/a b#1.jpg", "gcs://bucket/a b#1.jpg"):
    system, path = drivers.open_system(url)
    assert type(system) is gcsfs.core.GCSFileSystem, type(system)
    assert path == "bucket/a b#1.jpg", path
    assert drivers.open_system(url)[0] is system
"""
    subprocess.run([sys.executable, "-c", program], check=True)
