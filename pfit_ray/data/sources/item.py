"""One image of a source, and what its id may look like."""

import hashlib
import re
from dataclasses import dataclass

MAX_ID = 96
"""Longest image id: with `.png` it fits the name field of every tar format."""

_PLAIN = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_-]{{0,{MAX_ID - 1}}}")
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]|^-")
_HASH_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Item:
    """One image.

    Args:
        image_id: unique and safe as a file name.
        uri: absolute path or URL of the image, or of the tar or Parquet file that it is in.
        keys: ascending class ids of its image-level label, 1-based; None: unknown, to be predicted.
        mask_uri: ground truth PNG, if there is one, as `pfit_ray.data.image_bytes.fetch_address` reads it.
        reason: code from `pfit_ray.constants.REASONS` where its label is unusable: a failed row.
        message: one sentence that goes with the reason.
        offset: first byte of the image in a tar file.
        length: bytes of the image in a tar file.
        row: row of the image in a Parquet file, from 0.
        column: column of a Parquet file that holds the image.
        name: what the image is called in its tar or Parquet file, see `pfit_ray.data.image_bytes.PLACE_FIELDS`.
        name_column: likewise.
        size: bytes of the image, where the listing tells.
        version: the file's etag, or else the time of its last change, where the listing tells.
    """

    image_id: str
    uri: str
    keys: tuple[int, ...] | None = None
    mask_uri: str | None = None
    reason: str | None = None
    message: str | None = None
    offset: int | None = None
    length: int | None = None
    row: int | None = None
    column: str | None = None
    name: str | None = None
    name_column: str | None = None
    size: int | None = None
    version: str | None = None


def is_plain(stem: str) -> bool:
    """Whether a name is an image id as it stands: letters, digits, `_` and `-`, at most 96 of them."""
    return _PLAIN.fullmatch(stem) is not None


def hashed_id(stem: str, path: str) -> str:
    """Safe image id of any name: other characters become `_`, and 16 hex digits of the path's SHA-1 follow."""
    digest = hashlib.sha1(path.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()
    safe = _UNSAFE.sub("_", stem)[: MAX_ID - _HASH_DIGITS - 1]
    return f"{safe}-{digest[:_HASH_DIGITS]}"


def path_id(path: str) -> str:
    """Image id of a relative path: its stem, if that is plain and no folder is in the path, else a hashed id."""
    stem = path.rpartition(".")[0] or path
    return stem if is_plain(stem) else hashed_id(stem, path)


def printable(text: str) -> str:
    """A text as UTF-8 can hold it: bytes of a file name that are none become `?` signs of their own."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
