"""Source: tar files in the WebDataset convention."""

import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO

from pfit_ray.config.data import DataConfig
from pfit_ray.data.images import IMAGE_SUFFIXES
from pfit_ray.data.sources.files import find_files
from pfit_ray.data.sources.item import Item, hashed_id, is_plain, path_id, printable
from pfit_ray.data.sources.label_table import LABEL_COLUMN, as_cell, cell_names
from pfit_ray.data.sources.labels import label_keys
from pfit_ray.data.sources.notes import Note, Notes
from pfit_ray.errors import RowError, UserError
from pfit_ray.storage import Entry
from pfit_ray.storage.ranges import open_for_rows
from pfit_ray.storage.threads import chain_ahead

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4")
_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")
_KEY = re.compile(r"((?:.*/)?[^/.]+)\.([^/]*)", re.DOTALL)
_HERE = re.compile(r"(?:\./+)+")
_LABEL_BYTES = 1 << 20
"""A label member is not read further."""
_THREADS = 8
_HEAD = 4096


@dataclass
class _Sample:
    """The members of one key."""

    key: str
    image: tarfile.TarInfo | None = None
    number: bytes | None = None
    """The .cls member."""
    document: bytes | None = None
    """The .json member."""


def list_tar(data: DataConfig, notes: Notes) -> Iterator[Item]:
    """The images in the tar files of `data.root`, sorted by path, each file in its own order.

    Members that follow one another and share a key, the path up to the first dot of the name, are one sample: its
    first image, with the label in .cls (a class name, or a number counted from `data.tar_first_class`) or in the
    entry "classes" of .json; without these the label is unknown. Of the files only headers and labels are used; the
    images are read later, by byte range.

    The image's id is its key, made safe where it is unsafe as a file name, or with `data.tar_ids` path the key and
    a hash of tar file and member. `./` before a name, as `tar c .` puts it, is no part of it. A damaged tar file is a
    failed row; what it holds before the damage is listed.

    Args:
        data: the source.
        notes: is told what is left out.

    Raises:
        UserError: when the folder is missing, or a tar file is compressed.
    """
    files = find_files(data.root or "", (".tar", *COMPRESSED), notes=notes)
    streams = (partial(_items, data, path, entry) for path, entry in files)
    return notes.sift(chain_ahead(streams, _THREADS, _THREADS, _HEAD))


def _items(data: DataConfig, path: str, entry: Entry) -> Iterator[Item | Note]:
    try:
        with open_for_rows(entry.url, entry.size) as file:
            if path.lower().endswith(COMPRESSED) or file.read(6).startswith(_MAGIC):
                raise UserError(
                    f"data.root: {entry.url} is compressed, and images inside a compressed tar file cannot be read "
                    "one by one; unpack it to a plain .tar"
                )
            file.seek(0)
            for sample in _samples(file):
                if sample.image is not None:
                    yield _item(data, path, entry, sample, sample.image)
    except tarfile.TarError as error:
        message = f"{printable(entry.url)} is damaged; images behind the damage are not listed: {error}"
        yield Item(path_id(path), printable(entry.url), None, None, "bad_file", message, version=entry.version)
    except RowError as error:
        message = f"images in it are not listed: {error.message}"
        yield Item(path_id(path), printable(entry.url), None, None, error.reason, message, version=entry.version)


def _item(data: DataConfig, path: str, entry: Entry, sample: _Sample, image: tarfile.TarInfo) -> Item:
    plain = data.tar_ids == "key" and is_plain(sample.key)
    item = Item(
        sample.key if plain else hashed_id(sample.key, f"{path}/{image.name}"),
        printable(entry.url),
        offset=image.offset_data,
        length=image.size,
        size=image.size,
        version=entry.version,
    )
    try:
        return replace(item, keys=_keys(data, sample))
    except RowError as error:
        return replace(item, reason=error.reason, message=error.message)


def _keys(data: DataConfig, sample: _Sample) -> tuple[int, ...] | None:
    """Class ids of a sample's label; None: unknown."""
    names: list[str] | None = None
    if sample.number is not None:
        names = [_class_name(data, _decoded(sample.number, ".cls"))]
    elif sample.document is not None:
        try:
            document = json.loads(_decoded(sample.document, ".json"))
        except ValueError as error:
            raise RowError("no_label", f"the .json member is not valid JSON: {error}") from error
        cell = document.get(LABEL_COLUMN) if isinstance(document, dict) else None
        names = cell_names(as_cell(cell), set(data.class_list.names))
    return None if names is None else label_keys(names, data.class_list, data.unknown_classes == "ignore")


def _class_name(data: DataConfig, text: str) -> str:
    names, first = data.class_list.names, data.tar_first_class
    if not re.fullmatch(r"[0-9]+", text):
        return text
    if not first <= int(text) < first + len(names):
        raise RowError(
            "unknown_class",
            f"the .cls member holds class number {text}, and data.classes has the numbers {first} to "
            f"{first + len(names) - 1} (data.tar_first_class is {first})",
        )
    return names[int(text) - first]


def _decoded(content: bytes, member: str) -> str:
    try:
        return content.decode().strip()
    except UnicodeDecodeError as error:
        raise RowError("no_label", f"the {member} member is not UTF-8 text") from error


def _samples(file: BinaryIO) -> Iterator[_Sample]:
    """Members of the same key that follow one another; an error comes after the last of them."""
    sample = _Sample("")
    damage = None
    try:
        for member in plain_members(file):
            if found := _HERE.match(member.name):
                member.name = member.name[found.end() :]
            match = _KEY.fullmatch(member.name)
            if match is None:
                continue
            key, kind = match[1], match[2].lower()
            if key != sample.key:
                yield sample
                sample = _Sample(key)
            if f".{kind}" in IMAGE_SUFFIXES:
                sample.image = sample.image or member
            elif kind == "cls":
                sample.number = _content(file, member)
            elif kind == "json":
                sample.document = _content(file, member)
    except tarfile.TarError as error:
        damage = error
    yield sample
    if damage is not None:
        raise damage


def plain_members(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """The plain files of a tar file, in order.

    Raises:
        tarfile.TarError: where the file is damaged.
    """
    with tarfile.open(fileobj=file, mode="r:") as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # it would keep them all
            if member.isreg() and not member.issparse():
                yield member
        file.seek(archive.offset)
        if any(file.read(tarfile.BLOCKSIZE)):  # which tarfile takes for the end of the file
            raise tarfile.ReadError(f"there is no valid header at byte {archive.offset}")


def _content(file: BinaryIO, member: tarfile.TarInfo) -> bytes:
    file.seek(member.offset_data)
    return file.read(min(member.size, _LABEL_BYTES))
