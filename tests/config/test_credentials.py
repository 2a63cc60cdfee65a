import re

import pytest

from pfit_ray.config.credentials import (
    carries_credentials,
    is_secret_name,
    redacted,
    secret_entries,
    without_secrets,
)
from pfit_ray.config.reference import configuration_page


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("s3://key:secret@bucket/x", "s3://***@bucket/x"),
        ("simplecache::https://me:word@host/x", "simplecache::https://***@host/x"),
        ("https://host/x.jpg?X-Amz-Signature=abc&part=1", "https://host/x.jpg?X-Amz-Signature=***&part=1"),
        ("https://host/x?a=1&sig=abc%3D", "https://host/x?a=1&sig=***"),
        ("https://host/x?X-Amz-Security-Token=abc", "https://host/x?X-Amz-Security-Token=***"),
        ("https://host/x?AWSAccessKeyId=abc", "https://host/x?AWSAccessKeyId=***"),
        ("https://ghp_T0ken@host/x", "https://***@host/x"),
        ("https://me:p/w@host:8080/x", "https://***@host:8080/x"),
        ("https://me:p?w#d@host/x", "https://***@host/x"),
        ("https://host/x?auth=abc", "https://host/x?auth=***"),
        ("https://host/x?a=1&pwd=abc#top", "https://host/x?a=1&pwd=***"),
        ("https://host/x?code=abc&key=AIza", "https://host/x?code=***&key=***"),
        ("zip://a.jpg::https://host/x.zip?sv=1&sig=a%2Fb", "zip://a.jpg::https://host/x.zip?sv=1&sig=***"),
        ("https://host/x?access_token=abc;apiKey=def", "https://host/x?access_token=***;apiKey=***"),
    ],
)
def test_secrets_of_urls(url: str, clean: str) -> None:
    assert carries_credentials(url)
    assert redacted(url) == clean
    assert not carries_credentials(clean)
    assert redacted(clean) == clean
    assert redacted(f"no answer from {url} in time") == f"no answer from {clean} in time"


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/a:b@c.jpg",
        "abfs://container@account.dfs.core.windows.net/x",
        "sftp://me@host/x",
        "s3://bucket/photo?key=3.jpg",
        "photos/me:word@home?token=1",
        "http://minio:9000/bucket/a@2x.png",
        "http://[::1]:9000/a@b",
        "https://host/x?page=3&barcode=12&keyword=cat&monkey=1",
        "file:///photos/a:b@c.jpg",
        "gs://bucket/x?code=3.jpg",
    ],
)
def test_urls_without_secrets(url: str) -> None:
    assert not carries_credentials(url)


def test_values_of_secret_variables_are_cut_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "open/sesame")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountKey=abc")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/token")
    text = "signed with open/sesame and AccountKey=abc from /var/token"
    assert redacted(text) == "signed with *** and *** from /var/token"


def test_values_of_whatever_variable_a_plug_in_keeps_its_secret_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTER_API_KEY", "correct-horse")
    monkeypatch.setenv("SEGMENTER_TOKEN_FILE", "/var/segmenter")
    assert redacted("401 for key correct-horse of /var/segmenter") == "401 for key *** of /var/segmenter"


@pytest.mark.parametrize(
    "name",
    ["api_key", "apiKey", "APIKEY", "key", "token", "HF_TOKEN", "secret", "client-secret", "secretValue", "password",
     "db.passwd", "sas", "sas_token", "credential", "credentials", "auth", "aws_access_key_id", "connectionString"],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)
    assert list(secret_entries({"options": [{name: "abc"}]})) == [f"options.{name}"]
    assert without_secrets({"options": [{name: "abc", "x": 1}]}) == {"options": [{"x": 1}]}


@pytest.mark.parametrize(
    "name", ["keys_column", "tokens", "monkey", "author", "tokenizer", "password_file", "passes", ""]
)
def test_other_names(name: str) -> None:
    assert not is_secret_name(name)


def test_classes_may_be_called_like_a_secret() -> None:
    zero_shot = {"key": [771], "token": (1, 2), "sas": 0.5, "auth": True, "pwd": None, "pass": ""}
    assert list(secret_entries(zero_shot)) == []
    assert without_secrets({"key": [771]}) == {"key": [771]}


def test_no_field_of_a_config_is_called_like_a_secret() -> None:
    names = {name for line in configuration_page().splitlines() for name in re.findall(r"^- `([^`]+)`", line)}
    assert len(names) > 150
    assert not [name for name in names if is_secret_name(name.rpartition(".")[2])]
