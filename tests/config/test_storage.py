from typing import Any

import pytest

from pfit_ray.config.load import validate
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
    with pytest.raises(UserError, match=f"config: the URL of '{field}' carries credentials") as caught:
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
