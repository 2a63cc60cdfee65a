import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pfit_ray.config import storage
from pfit_ray.config.load import validate
from pfit_ray.config.storage import Handover, storage_variables
from pfit_ray.errors import UserError
from pfit_ray.runner.fingerprint import STEP_FIELDS

BASE = {"output": "runs/x", "data": {"source": "samples"}}


@pytest.mark.parametrize("name", ["key", "secret", "Token", "aws_secret_access_key", "connection_string"])
def test_secrets_are_refused_and_not_repeated(name: str) -> None:
    with pytest.raises(UserError, match=rf"config: storage: '{name}' is refused, .*environment variables") as caught:
        validate({**BASE, "storage": {name: "sesame"}})
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"output": "s3://me:sesame@bucket/x"}, "output"),
        ({"data": {"source": "samples", "masks": "https://host/masks?sig=sesame"}}, "data.masks"),
        ({"data": {"source": "samples", "sbd_lists": ["https://me:sesame@host/a", "b"]}}, "data.sbd_lists"),
        ({"storage": {"endpoint_url": "http://me:sesame@minio"}}, "storage.endpoint_url"),
    ],
)
def test_urls_with_credentials_are_refused_and_not_repeated(change: dict[str, Any], field: str) -> None:
    with pytest.raises(UserError, match=f"config: the URL of '{field}'") as caught:
        validate({**BASE, **change})
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"endpoint_url": "minio:9000"}, "endpoint_url must begin with http:// or https://"),
        ({"retries": 21}, "'storage.retries' is 21"),
        ({"timeout_seconds": 0}, "'storage.timeout_seconds' is 0"),
        ({"profil": "x"}, "did you mean 'storage.profile'"),
    ],
)
def test_mistakes(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        validate({**BASE, "storage": given})


def test_no_step_depends_on_how_storage_is_reached() -> None:
    assert not [name for names in STEP_FIELDS.values() for name in names if name.startswith("storage")]


def test_what_is_handed_over() -> None:
    environment = {
        "AWS_ACCESS_KEY_ID": "1",
        "AZURE_CLIENT_ID": "2",
        "GOOGLE_CLOUD_PROJECT": "3",
        "STORAGE_EMULATOR_HOST": "4",
        "PFIT_RAY_STORAGE": "{}",
        "HOME": "5",
        "MY_AWS_KEY": "6",
    }
    assert set(storage_variables(environment)) == set(environment) - {"HOME", "MY_AWS_KEY"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An empty environment of a node."""
    mine: dict[str, str] = {}
    monkeypatch.setattr(storage, "os", SimpleNamespace(environ=mine, path=os.path))
    return mine


KEYS = {"AWS_ACCESS_KEY_ID": "driver", "AWS_SECRET_ACCESS_KEY": "driver", "AWS_REGION": "driver"}


def test_a_bare_node_takes_all(environment: dict[str, str]) -> None:
    Handover({**KEYS, "AZURE_CLIENT_ID": "driver"})()
    assert environment == {**KEYS, "AZURE_CLIENT_ID": "driver"}


def test_a_node_with_an_identity_keeps_it_whole(environment: dict[str, str]) -> None:
    environment.update({"AWS_PROFILE": "node", "AWS_REGION": "node", "PFIT_RAY_STORAGE": "node"})
    Handover({**KEYS, "AZURE_CLIENT_ID": "driver", "AWS_CA_BUNDLE": "driver", "PFIT_RAY_STORAGE": "driver"})()
    assert environment == {
        "AWS_PROFILE": "node",
        "AWS_REGION": "node",
        "AZURE_CLIENT_ID": "driver",
        "AWS_CA_BUNDLE": "driver",
        "PFIT_RAY_STORAGE": "driver",
    }


def test_files_that_the_node_lacks_are_not_named(environment: dict[str, str], tmp_path: Path) -> None:
    there = tmp_path / "token"
    there.touch()
    Handover({"AWS_WEB_IDENTITY_TOKEN_FILE": str(there), "GOOGLE_APPLICATION_CREDENTIALS": "/nowhere.json"})()
    assert environment == {"AWS_WEB_IDENTITY_TOKEN_FILE": str(there)}


def test_no_value_in_repr() -> None:
    assert repr(Handover(KEYS)) == "Handover(AWS_ACCESS_KEY_ID, AWS_REGION, AWS_SECRET_ACCESS_KEY)"
