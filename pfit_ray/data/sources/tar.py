"""Source: tar files in the WebDataset convention."""

import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO

from pfit_ray.config.data import DataConfig
from pfit_ray.data.image_bytes import header_name
from pfit_ray.data.images import IMAGE_SUFFIXES
from pfit_ray.data.sources.files import find_files
from pfit_ray.data.sources.item import Item, hashed_id, is_plain, path_id, printable
from pfit_ray.data.sources.label_table import LABEL_NAMES, find_column
from pfit_ray.data.sources.labels import LABEL_COLUMN, as_cell, cell_names, find_class, labelled
from pfit_ray.data.sources.notes import Note, Notes
from pfit_ray.data.sources.spill import TextMap
from pfit_ray.errors import RowError, UserError
from pfit_ray.storage import Entry
from pfit_ray.storage.ranges import open_for_rows
from pfit_ray.storage.threads import chain_ahead

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4")
_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")
_KEY = re.compile(r"((?:.*/)?[^/.]+)\.([^/]*)", re.DOTALL)
_HERE = re.compile(r"(?:\./+)+")
_LABELS = (".cls", ".json", ".txt")
_LABEL_BYTES = 1 << 20
"""A label member is not read further."""
_THREADS = 8
_HEAD = 4096
_CHUNK = 1 << 20


@dataclass
class _Member:
    """A file of a tar that may belong to a sample."""

    name: str
    """Without `./` before it."""
    stem: str
    """The name up to its last dot."""
    kind: str
    """The suffix, in lower case, from its last dot on."""
    offset: int
    size: int
    text: str | None = None
    """The text of a label member; None if it is not UTF-8."""
    header: str | None = None
    """The name in the block before the content, of an image."""


@dataclass
class _Sample:
    """One image with its labels, by suffix; `key` tells it apart from others."""

    key: str
    image: _Member
    labels: dict[str, _Member] = field(default_factory=dict)


def list_tar(data: DataConfig, notes: Notes) -> Iterator[Item]:
    """The images in the tar files of `data.root`, sorted by path, each file in its own order.

    Members that share a key, the path up to the first dot of the name, are one sample, wherever they are in the file. A
    sample is an image with the label in .cls (class names, or a number counted from `data.tar_first_class`) or in the
    entry "classes" of .json; without these the label is unknown. If a key has several images, each is a sample of its
    own, with the labels of its name up to the last dot. If the key itself has a label, it goes to the first image and
    the others are left out. Only headers and labels are read now; the images are read later, by byte range.

    The image's id is its key, made safe if it is unsafe as a file name. With `data.tar_ids` path it is the key and a
    hash of tar file and member. `./` before a name, as `tar c .` writes it, does not count. A damaged tar file is a
    failed row; its images before the damage are listed.

    The members of a file are kept in a temporary table (`pfit_ray.data.sources.spill`) until its end is reached.

    Args:
        data: the source.
        notes: gets what is left out.

    Raises:
        UserError: when the folder is missing, or a tar file is compressed.
    """
    files = find_files(data.root or "", (".tar", *COMPRESSED), notes=notes)
    streams = (partial(_items, data, path, entry) for path, entry in files)
    return notes.sift(chain_ahead(streams, _THREADS, _THREADS, _HEAD))


def _items(data: DataConfig, path: str, entry: Entry) -> Iterator[Item | Note]:
    notes, damage = Notes(), list[Item]()
    uri = printable(entry.url)

    def damaged(reason: str, message: str) -> None:
        damage.append(Item(path_id(path), uri, None, None, reason, message, version=entry.version))

    def members() -> Iterator[tuple[str, str | None]]:
        try:
            with open_for_rows(entry.url, entry.size) as file:
                if path.lower().endswith(COMPRESSED) or file.read(6).startswith(_MAGIC):
                    raise UserError(
                        f"data.root: {entry.url} is compressed, and images inside a compressed tar file cannot be "
                        "read one by one; unpack it to a plain .tar"
                    )
                file.seek(0)
                yield from _members(file, path, notes)
        except tarfile.TarError as error:
            damaged("bad_file", f"{uri} is damaged; images behind the damage are not listed: {error}")
        except RowError as error:
            damaged(error.reason, f"images in it are not listed: {error.message}")

    for key, group in TextMap(members()).groups():
        found = (_Member(*json.loads(member)) for member in group if member is not None)
        for members_of_one in _without_repeats(found):
            for sample in _samples(key, members_of_one, path, notes):
                yield _item(data, path, entry, sample, notes)
    yield from damage
    yield from notes


def _members(file: BinaryIO, path: str, notes: Notes) -> Iterator[tuple[str, str | None]]:
    """Key and `_Member`, as JSON, of each member that may belong to a sample."""
    for member in plain_members(file, partial(notes.add, "tar files appended to another one, read like it", path)):
        name = member.name
        if found := _HERE.match(name):
            name = name[found.end() :]
        if name.rpartition("/")[2].startswith("."):
            continue
        match = _KEY.fullmatch(name)
        stem, _, suffix = name.rpartition(".")
        kind = f".{suffix.lower()}" if match else ""
        if match is None or kind not in IMAGE_SUFFIXES + _LABELS:
            notes.add(f"members left out of tar files with the suffix {kind}" if kind else _NO_SUFFIX, f"{path}/{name}")
            continue
        text = _content(file, member) if kind in _LABELS else None
        header = None if kind in _LABELS else in_header(file, member)
        yield match[1], json.dumps([name, stem, kind, member.offset_data, member.size, text, header])


_NO_SUFFIX = "members left out of tar files without a suffix"
_FURTHER = "further images of a sample in tar files, left out"


def _samples(key: str, members: list[_Member], path: str, notes: Notes) -> Iterator[_Sample]:
    """The samples of one key, in the order of their images."""
    images = [member for member in members if member.kind in IMAGE_SUFFIXES]
    images.sort(key=lambda image: image.stem != key)
    ours = {image.stem: image for image in reversed(images)}
    alike = [image for image in images if ours[image.stem] is not image]
    if alike:
        notes.add(_FURTHER, f"{path}/{alike[0].name}", count=len(alike))
        images = [image for image in images if ours[image.stem] is image]
    labels = [member for member in members if member.kind not in IMAGE_SUFFIXES]
    if not images:
        remedy = "images that could not be downloaded have none" if any(_status(member) for member in labels) else ""
        notes.add("samples of tar files without an image, left out", f"{path}/{key}", remedy)
        return
    own = [[label for label in labels if label.stem == image.stem] for image in images]
    if len(images) == 1:
        yield _Sample(images[0].stem if own[0] or not labels else key, images[0], _by_kind(own[0] or labels))
    elif all(own) or (images[0].stem != key and (any(own) or not labels)):
        for image, its in zip(images, own, strict=True):
            yield _Sample(image.stem, image, _by_kind(its))
    else:
        yield _Sample(key, images[0], _by_kind(labels))
        notes.add(_FURTHER, f"{path}/{images[1].name}", count=len(images) - 1)


def _without_repeats(members: Iterable[_Member]) -> Iterator[list[_Member]]:
    """The members of one key. Where a name comes again, another sample begins."""
    one: dict[str, _Member] = {}
    for member in members:
        if member.name in one:
            yield list(one.values())
            one = {}
        one[member.name] = member
    yield list(one.values())


def _by_kind(labels: list[_Member]) -> dict[str, _Member]:
    return {label.kind: label for label in reversed(labels)}


def _status(label: _Member) -> str:
    """The status that img2dataset gives a sample without an image."""
    document = _document(label) if label.kind == ".json" else None
    return str(document.get("status") or "") if isinstance(document, dict) else ""


def _document(label: _Member) -> Any:
    try:
        return json.loads(label.text or "")
    except (ValueError, RecursionError):
        return None


def _item(data: DataConfig, path: str, entry: Entry, sample: _Sample, notes: Notes) -> Item:
    image = sample.image
    plain = data.tar_ids == "key" and is_plain(sample.key)
    item = Item(
        sample.key if plain else hashed_id(sample.key, f"{path}/{image.name}"),
        printable(entry.url),
        offset=image.offset,
        length=image.size,
        name=image.header,
        size=image.size,
        version=entry.version,
    )
    return labelled(item, data, lambda: _names(data, sample, f"{path}/{image.name}", notes), notes)


def _names(data: DataConfig, sample: _Sample, name: str, notes: Notes) -> list[str] | None:
    """Class names of a sample's label; None: unknown."""
    known = set(data.class_list.names)
    names: list[str] | None = None
    if (label := sample.labels.get(".cls")) is not None:
        names = [_class_name(data, one) for one in cell_names(_decoded(label), known) or ()]
    elif (label := sample.labels.get(".json")) is not None:
        try:
            document = json.loads(_decoded(label))
        except (ValueError, RecursionError) as error:
            raise RowError("no_label", f"the .json member is not valid JSON: {error}") from error
        document = {"labels": document} if isinstance(document, list) else document
        names = _named(document, data, name, notes) if isinstance(document, dict) else None
    if (
        names is None
        and (label := sample.labels.get(".txt")) is not None
        and find_class(label.text or "", data.class_list)
    ):
        remedy = "call the members .cls"
        notes.add(
            "images with predicted labels, whose .txt in the tar file names a class but is read as a caption",
            name,
            remedy,
        )
    return names


def _named(document: dict[str, Any], data: DataConfig, name: str, notes: Notes) -> list[str] | None:
    """The classes in a .json member: those of `classes`, else those of an entry with another name if all are known."""
    known = set(data.class_list.names)
    if LABEL_COLUMN in document:
        return cell_names(as_cell(document[LABEL_COLUMN]), known)
    entry = find_column(document, LABEL_NAMES)
    if entry is None or document[entry] is None:
        return None
    names = cell_names(as_cell(document[entry]), known)
    if names and all(find_class(one, data.class_list) for one in names):
        return names
    notes.add(
        f"entries {entry!r} of .json members that look like labels and were not read",
        name,
        f"call them {LABEL_COLUMN!r}",
    )
    return None


def _class_name(data: DataConfig, text: str) -> str:
    names, first = data.class_list.names, data.tar_first_class
    if not re.fullmatch(r"[0-9]+", text) or text in names:
        return text
    if not first <= int(text) < first + len(names):
        raise RowError(
            "unknown_class",
            f"the .cls member holds class number {text}, and data.classes has the numbers {first} to "
            f"{first + len(names) - 1} (data.tar_first_class is {first})",
        )
    return names[int(text) - first]


def _decoded(label: _Member) -> str:
    if label.text is None:
        raise RowError("no_label", f"the {label.kind} member is not UTF-8 text")
    return label.text.strip()


def plain_members(file: BinaryIO, appended: Callable[[], None] = lambda: None) -> Iterator[tarfile.TarInfo]:
    """The plain files of a tar file, or of several appended to each other, in order.

    Args:
        file: seekable.
        appended: is called where another tar file begins.

    Raises:
        tarfile.TarError: where the file is damaged.
    """
    start = 0
    while True:
        file.seek(start)
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it would keep them all
                if member.isreg() and not member.issparse():
                    yield member
            end = archive.offset
        file.seek(end)
        if any(file.read(tarfile.BLOCKSIZE)):  # which tarfile takes for the end of the file
            raise tarfile.ReadError(f"there is no valid header at byte {end}")
        following = _next_block(file, end)
        if following is None:
            return
        start = following
        appended()


def _next_block(file: BinaryIO, start: int) -> int | None:
    """Where the first block that is not all zero begins; None if there is none."""
    file.seek(start)
    while chunk := file.read(_CHUNK):
        rest = chunk.lstrip(b"\0")
        if rest:
            return start + (len(chunk) - len(rest)) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
        start += len(chunk)
    return None


def in_header(file: BinaryIO, member: tarfile.TarInfo) -> str | None:
    """The name in the block before a member's content; the whole name may stand before that."""
    if member.offset_data - member.offset == tarfile.BLOCKSIZE:
        return printable(member.name)
    file.seek(member.offset_data - tarfile.BLOCKSIZE)
    found = header_name(file.read(tarfile.BLOCKSIZE))
    return None if found is None else found[0]


def _content(file: BinaryIO, member: tarfile.TarInfo) -> str | None:
    """The text of a label; None where it is not UTF-8."""
    file.seek(member.offset_data)
    try:
        return file.read(min(member.size, _LABEL_BYTES)).decode()
    except UnicodeDecodeError:
        return None
