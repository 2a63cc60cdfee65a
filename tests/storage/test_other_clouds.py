"""gs:// and az:// against servers on loopback that speak their protocols."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from pfit_ray import storage
from pfit_ray.config.storage import StorageConfig
from pfit_ray.errors import RowError
from pfit_ray.storage import drivers, files

ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""What every Azurite answers to; it is printed in its manual."""

GCS_SERVER = """
import sys, threading
from gcp_storage_emulator.server import create_server
create_server("127.0.0.1", int(sys.argv[1]), in_memory=True, default_bucket="bucket").start()
threading.Event().wait()
"""


@contextmanager
def served(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, f"{command} does not start"
                assert time.monotonic() < end, f"{command} does not answer"
                time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def google(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("gcp_storage_emulator")
    port = free_port()
    with served([sys.executable, "-c", GCS_SERVER, str(port)], port):
        options = StorageConfig(endpoint_url=f"http://127.0.0.1:{port}", anonymous=True, backoff_seconds=0.01)
        monkeypatch.setattr(drivers, "_options", options)
        yield "gs://bucket"


@contextmanager
def azure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    adlfs = pytest.importorskip("adlfs")
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("azurite-blob is not on PATH (npm install -g azurite)")
    port = free_port()
    quiet = ["--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    command = [program, *quiet, "--location", str(folder), "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    adlfs.AzureBlobFileSystem.clear_instance_cache()  # the connection string is none of its arguments
    with served(command, port):
        monkeypatch.setattr(drivers, "_options", StorageConfig(backoff_seconds=0.01))
        monkeypatch.setenv(
            "AZURE_STORAGE_CONNECTION_STRING",
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};"
            f"BlobEndpoint=http://127.0.0.1:{port}/{ACCOUNT};",
        )
        drivers.open_system("az://bucket")[0].mkdir("bucket")
        yield "az://bucket"


@pytest.fixture(params=[google, azure])
def bucket(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with request.param(tmp_path, monkeypatch) as url:
        yield url


def test_a_file_is_created_once(bucket: str) -> None:
    assert storage.create_bytes(f"{bucket}/run/lock", b"first")
    assert not storage.create_bytes(f"{bucket}/run/lock", b"second")
    assert storage.read_bytes(f"{bucket}/run/lock") == b"first"
    storage.remove(f"{bucket}/run/lock")
    assert storage.create_bytes(f"{bucket}/run/lock", b"again")


def test_of_several_who_create_a_file_one_succeeds(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if bucket.startswith("gs://"):
        pytest.skip("the emulator takes no notice of ifGenerationMatch")
    monkeypatch.setattr(files, "exists", lambda url: False)  # all look at the same moment
    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(lambda number: storage.create_bytes(f"{bucket}/run/lock", b"%d" % number), range(6)))
    assert sum(won) == 1
    assert storage.read_bytes(f"{bucket}/run/lock") == b"%d" % won.index(True)


def test_files_are_written_read_listed_and_removed(bucket: str) -> None:
    odd = f"{bucket}/run/deep/b c#1.bin"
    assert not storage.exists(f"{bucket}/run/a.bin")
    storage.write_bytes(f"{bucket}/run/a.bin", b"old")
    storage.write_bytes(f"{bucket}/run/a.bin", b"123456")
    storage.write_bytes(odd, b"x" * 300_000)

    assert storage.exists(f"{bucket}/run/a.bin")
    assert storage.exists(f"{bucket}/run")
    assert storage.read_bytes(f"{bucket}/run/a.bin") == b"123456"
    assert storage.read_bytes(f"{bucket}/run/a.bin", 2, 4) == b"34"
    assert storage.fetch(odd) == b"x" * 300_000
    entries = list(storage.list_entries(f"{bucket}/run"))
    assert [(entry.url, entry.size) for entry in entries] == [(f"{bucket}/run/a.bin", 6), (odd, 300_000)]
    assert all(entry.version for entry in entries)

    storage.remove(f"{bucket}/run")
    assert list(storage.list_files(f"{bucket}/run")) == []


def test_a_missing_object_has_its_reason(bucket: str) -> None:
    with pytest.raises(RowError) as caught:
        storage.fetch(f"{bucket}/gone.jpg")
    assert (caught.value.reason, caught.value.message) == ("missing", f"{bucket}/gone.jpg does not exist")
