"""What is secret: told by names and URLs, refused in configs, and kept out of messages."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

MASK = "***"

# A host may have a port and a path a colon and an @; the first part of abfs:// and the user of ssh:// are no secret.
_PASSWORD = re.compile(r"(?<=://)[^/?#@\s:\[]*:(?!\d{1,5}(?:[/?#\s]|$))(?!\*{3}@)[^\s@]*@")
_TOKEN = re.compile(r"(\bhttps?://)(?!\*{3}@)[^/?#@\s:]+@")
_HTTP = re.compile(r"\bhttps?://\S+")
_QUERY = re.compile(r"([?&;])([\w.-]+)=(?!\*{3})[^&;\s\"']+")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SECRET_WORDS = {
    "secret", "secrets", "password", "passwords", "passwd", "passphrase", "credential", "credentials", "signature",
    "apikey", "accesskey",
}  # fmt: skip
"""A name that holds one of them is that of a secret, and so is one that ends in one of those below."""
_SECRET_ENDS = {"key", "token", "pwd", "pass", "auth", "authorization", "bearer", "sas", "sig", "cookie"}
_SECRET_PARTS = ("access_key", "connection_string")
_QUERY_NAMES = {"code", "key"}
"""Names of queries that are secrets to web servers; the names of objects in buckets may hold a `?`."""
_HARMLESS_ENDS = {"file", "path", "url", "column", "name", "env", "variable"}
"""What a secret is in, or is called."""
_SHORTEST_VALUE = 8


def carries_credentials(url: str) -> bool:
    """Whether a URL holds a user's password or token (`scheme://user:password@`) or a secret in its query."""
    return "://" in url and _without_url_secrets(url) != url


def is_secret_name(name: str) -> bool:
    """Whether what has this name looks like a secret: `api_key`, `accessKey`, `SAS_TOKEN`, `password`, ..."""
    words = [word.lower() for word in _WORDS.findall(name)]
    if not words or words[-1] in _HARMLESS_ENDS:
        return False
    joined = "_".join(words)
    return (
        not _SECRET_WORDS.isdisjoint(words)
        or words[-1] in _SECRET_ENDS
        or any(part in joined for part in _SECRET_PARTS)
    )


def secret_entries(value: Any, field: str = "") -> Iterator[str]:
    """Whole names of those entries of nested mappings that look like secrets; empty values and counts are none."""
    if isinstance(value, Mapping):
        for name, child in value.items():
            whole = f"{field}.{name}" if field else str(name)
            if _may_be_secret(str(name), child):
                yield whole
            else:
                yield from secret_entries(child, whole)
    elif isinstance(value, list | tuple):
        for child in value:
            yield from secret_entries(child, field)


def without_secrets(value: Any) -> Any:
    """A copy of nested mappings without their entries that look like secrets, nor those of URLs in its texts."""
    if isinstance(value, Mapping):
        return {name: without_secrets(child) for name, child in value.items() if not _may_be_secret(str(name), child)}
    if isinstance(value, list | tuple):
        return [without_secrets(child) for child in value]
    return _without_url_secrets(value) if isinstance(value, str) else value


def redacted(text: str) -> str:
    """A text without the passwords and secrets of its URLs and without the values of secret variables."""
    text = _without_url_secrets(text)
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST_VALUE and value in text and is_secret_name(name):
            text = text.replace(value, MASK)
    return text


def _may_be_secret(name: str, value: Any) -> bool:
    """Classes may be called `key` or `token`: what belongs to them are numbers."""
    if not value or isinstance(value, bool | int | float) or not is_secret_name(name):
        return False
    return not isinstance(value, list | tuple) or any(isinstance(part, str) for part in value)


def _without_url_secrets(text: str) -> str:
    text = _HTTP.sub(lambda url: _QUERY.sub(_masked_answer, url[0]), text)
    text = _QUERY.sub(lambda found: found[0] if found[2].lower() in _QUERY_NAMES else _masked_answer(found), text)
    return _TOKEN.sub(rf"\1{MASK}@", _PASSWORD.sub(f"{MASK}@", text))


def _masked_answer(found: re.Match[str]) -> str:
    secret = found[2].lower() in _QUERY_NAMES or is_secret_name(found[2])
    return f"{found[1]}{found[2]}={MASK}" if secret else found[0]
