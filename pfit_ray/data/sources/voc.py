"""Source: a PASCAL VOC folder, with JPEGImages, Annotations, SegmentationClass and ImageSets/Segmentation."""

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from pfit_ray import storage
from pfit_ray.config.data import DataConfig
from pfit_ray.data.images import IMAGE_SUFFIXES
from pfit_ray.data.sources.files import find_files
from pfit_ray.data.sources.item import Item, hashed_id, is_plain
from pfit_ray.data.sources.labels import folded, labelled
from pfit_ray.data.sources.notes import Notes
from pfit_ray.data.sources.voc_xml import object_names
from pfit_ray.errors import RowError, UserError
from pfit_ray.storage import Entry
from pfit_ray.storage.threads import prefetch

_READERS = 16
_AHEAD = 128
_MOST_TOLD = 12
_FLAG_OR_MASK = re.compile(r"(?:-?[01]|\S+\.png)", re.IGNORECASE)


@dataclass
class _Listed:
    """A line of a list."""

    name: str
    mask: str | None = None
    """Path of its ground truth, if the line has one."""


def list_voc(data: DataConfig, split: str | None, notes: Notes) -> Iterator[Item]:
    """The images of a list in its order, or all of JPEGImages sorted by name.

    Images may have any image suffix. Lists may name them with folder and suffix, and their ground truth in a second
    column, as SBD's lists do. Labels come from Annotations. Without that folder labels are unknown; if a single XML is
    missing or damaged, the item has the reason `no_label`. A mask is named only if its PNG exists.

    Args:
        data: the source; `data.root` holds the folders.
        notes: gets what is left out.
        split: name of a list in ImageSets/Segmentation, the path or URL of a list file, or None for every
            image. `train_aug`, where the folder has no such list, is VOC train + SBD train + SBD val - VOC
            val, sorted, with SBD's lists from `data.sbd_lists`.

    Raises:
        UserError: when a folder or list is missing.
    """
    root = _checked_root(data)
    images = _entries(storage.join(root, "JPEGImages"), IMAGE_SUFFIXES, notes)
    lines: Iterable[_Listed] = [_Listed(_stem_of(entry.url)) for entry in images.values()]
    if split is not None:
        lines = _split_lines(data, split, images)
    folders = {"SegmentationClass": _entries(storage.join(root, "SegmentationClass"), (".png",))}
    alone = [stem for stem in folders["SegmentationClass"] if stem not in images]
    if alone:
        notes.add("masks in SegmentationClass without an image of their name", alone[0], count=len(alone))
    labelled = storage.exists(storage.join(root, "Annotations"))
    read = prefetch(partial(_read, root, images, labelled), lines, _READERS, _AHEAD)
    return _items(data, root, read, folders, notes)


def _items(
    data: DataConfig,
    root: str,
    read: Iterable[tuple[_Listed, Item, list[str] | RowError | None]],
    folders: dict[str, dict[str, Entry]],
    notes: Notes,
) -> Iterator[Item]:
    for line, item, names in read:
        if item.reason is None:
            item = replace(item, mask_uri=_mask_of(root, line, folders, notes))
        yield labelled(item, data, partial(_names, names), notes)


def _names(read: list[str] | RowError | None) -> list[str] | None:
    if isinstance(read, RowError):
        raise read
    return read


def _mask_of(root: str, line: _Listed, folders: dict[str, dict[str, Entry]], notes: Notes) -> str | None:
    """The ground truth that the list names, else the PNG in SegmentationClass, if it exists."""
    folder, stem = "SegmentationClass", line.name
    if line.mask is not None:
        parts = [part for part in folded(line.mask).split("/") if part]
        folder, stem = (parts[-2] if len(parts) > 1 else folder), parts[-1].rpartition(".")[0]
        if folder == "..":
            folder = "SegmentationClass"
    if folder not in folders:
        folders[folder] = _entries(storage.join(root, folder), (".png",))
    found = folders[folder].get(folded(stem))
    if found is None and line.mask is not None:
        notes.add("masks that the list names but that do not exist", line.mask)
    return None if found is None else found.url


def _split_lines(data: DataConfig, split: str, images: Container[str]) -> list[_Listed]:
    root = _checked_root(data)
    url = split if "/" in split or split.endswith(".txt") else list_url(root, split)
    if storage.exists(url):
        return _read_list(url, images)
    if split == "train_aug":
        return [_Listed(name) for name in _train_aug(root, data.sbd_lists, images)]
    places = (storage.join(root, "ImageSets", folder) for folder in ("Segmentation", "Main"))
    place = next((place for place in places if storage.exists(place)), None)
    lists = [path.rpartition(".")[0] for path, _ in find_files(place, (".txt",))] if place else []
    raise UserError(
        f"data: there is no list {url}; lists in {place}: {', '.join(sorted(lists)[:_MOST_TOLD]) or 'none'}"
    )


def _checked_root(data: DataConfig) -> str:
    root = storage.absolute(data.root or "")
    for place in (root, storage.join(root, "JPEGImages")):
        if not storage.exists(place):
            raise UserError(
                f"data.root: there is no folder {place}; source voc needs the folder that holds JPEGImages, "
                "such as VOCdevkit/VOC2012"
            )
    return root


def list_url(root: str, name: str) -> str:
    """Where the list of a split lies: among those of the segmentation, or, as the older VOCs have it, in Main."""
    place, other = (storage.join(root, "ImageSets", folder, f"{name}.txt") for folder in ("Segmentation", "Main"))
    return other if not storage.exists(place) and storage.exists(other) else place


def _train_aug(root: str, sbd_lists: tuple[str, str] | None, images: Container[str]) -> list[str]:
    if sbd_lists is None:
        raise UserError(
            f"data: there is no list {list_url(root, 'train_aug')}; put it there, or set data.sbd_lists to "
            "SBD's train.txt and val.txt, from which it is built"
        )
    train, val = list_url(root, "train"), list_url(root, "val")
    for url in (train, val, *sbd_lists):
        if not storage.exists(url):
            raise UserError(f"data: split train_aug is built from the list {url}, which does not exist")
    names = {line.name for url in (train, *sbd_lists) for line in _read_list(url, images)}
    return sorted(names.difference(line.name for line in _read_list(val, images)))


def _read_list(url: str, images: Container[str]) -> list[_Listed]:
    try:
        text = storage.read_bytes(url).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"data: the list {url} is not a text file") from error
    return [_listed(line.strip(), images) for line in text.splitlines() if line.strip()]


def _listed(line: str, images: Container[str]) -> _Listed:
    """Parse a line: the longest beginning that is an image, else everything before a flag or a mask."""
    words = line.split()
    for behind in range(len(words)):
        name, *rest = line.rsplit(maxsplit=behind)
        if folded(_bare(name)) in images:
            return _Listed(_bare(name), next((word for word in rest if word.lower().endswith(".png")), None))
    name, *rest = line.rsplit(maxsplit=1)
    if rest and _FLAG_OR_MASK.fullmatch(rest[0]):
        return _Listed(_bare(name), rest[0] if rest[0].lower().endswith(".png") else None)
    return _Listed(_bare(line))


def _bare(name: str) -> str:
    """A name without an image's suffix, and without the folder JPEGImages and what is above it."""
    folder, _, file = name.replace("\\", "/").rpartition("/")
    if folder.rpartition("/")[2] == "JPEGImages":
        name = file
    return name.rpartition(".")[0] if name.lower().endswith(IMAGE_SUFFIXES) else name


def _stem_of(url: str) -> str:
    return url.rpartition("/")[2].rpartition(".")[0]


def _entries(folder: str, suffixes: tuple[str, ...], notes: Notes | None = None) -> dict[str, Entry]:
    """The files of a folder with some suffixes, by stem, sorted by name; of equal stems .jpg counts, then the first."""
    found: dict[str, Entry] = {}
    if not storage.exists(folder):
        return found
    for path, entry in find_files(folder, suffixes, notes=notes):
        if "/" in path:
            continue
        stem = folded(path.rpartition(".")[0])
        if stem in found and notes is not None:
            notes.add(
                "images left out, because another one in JPEGImages has the same stem", path, "rename one of them"
            )
        if stem not in found or path.endswith(".jpg"):
            found[stem] = entry
    return found


def _read(
    root: str, images: Mapping[str, Entry], labelled: bool, line: _Listed
) -> tuple[_Listed, Item, list[str] | RowError | None]:
    """A line, its item, and the classes in its annotation or why they are unknown."""
    name = line.name
    image_id = name if is_plain(name) else hashed_id(name, name)
    if "/" in name or "\\" in name or name.startswith(".") or not name.isprintable():
        message = f"{name!r} is not an image id; a list holds ids such as 2007_000032, without a folder"
        return line, Item(image_id, storage.join(root, "JPEGImages"), reason="bad_id", message=message), None
    entry = images.get(folded(name), Entry(storage.join(root, "JPEGImages", f"{name}.jpg"), None, None))
    item = Item(image_id, entry.url, size=entry.size, version=entry.version)
    if not labelled:
        return line, item, None
    annotation = storage.join(root, "Annotations", f"{_stem_of(entry.url)}.xml")
    try:
        return line, item, object_names(storage.fetch(annotation))
    except RowError as error:
        reason = "no_label" if error.reason in ("missing", "empty_file") else error.reason
        told = error.message if annotation in error.message else f"{annotation}: {error.message}"
        return line, item, RowError(reason, told)
