"""Source: a PASCAL VOC folder, with JPEGImages, Annotations, SegmentationClass and ImageSets/Segmentation."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

from pfit_ray import storage
from pfit_ray.config.data import DataConfig
from pfit_ray.data.sources.item import Item, hashed_id, is_plain
from pfit_ray.data.sources.labels import label_keys
from pfit_ray.data.sources.notes import Notes
from pfit_ray.data.sources.voc_xml import object_names
from pfit_ray.errors import RowError, UserError
from pfit_ray.storage import Entry
from pfit_ray.storage.threads import prefetch

_READERS = 16
_AHEAD = 128


def list_voc(data: DataConfig, split: str | None, notes: Notes) -> Iterator[Item]:
    """The images of a list in its order, or all of JPEGImages sorted by name.

    Labels come from Annotations. Where that folder is absent, labels are unknown; where a single XML is
    missing or damaged, the item has the reason `no_label`. A mask is named only if its PNG exists.

    Args:
        data: the source; `data.root` holds the folders.
        notes: is told what is left out.
        split: name of a list in ImageSets/Segmentation, the path or URL of a list file, or None for every
            image. `train_aug`, where the folder has no such list, is VOC train + SBD train + SBD val - VOC
            val, sorted, with SBD's lists from `data.sbd_lists`.

    Raises:
        UserError: when a folder or list is missing.
    """
    root = _checked_root(data)
    images = _entries(storage.join(root, "JPEGImages"), ".jpg")
    names = list(images if split is None else read_names(data, split))
    masks = set(_entries(storage.join(root, "SegmentationClass"), ".png"))
    labeled = storage.exists(storage.join(root, "Annotations"))
    return prefetch(partial(_item, data, root, images, masks, labeled), names, _READERS, _AHEAD)


def read_names(data: DataConfig, split: str | None) -> Iterable[str]:
    """The names of a split's images, as they stand in its list; see `list_voc`."""
    root = _checked_root(data)
    if split is None:
        return _entries(storage.join(root, "JPEGImages"), ".jpg")
    url = split if "/" in split or split.endswith(".txt") else _list_url(root, split)
    if storage.exists(url):
        return _read_list(url)
    if split == "train_aug":
        return _train_aug(root, data.sbd_lists)
    known = ", ".join(_entries(storage.join(root, "ImageSets", "Segmentation"), ".txt")) or "none"
    raise UserError(f"data: there is no list {url}; lists in ImageSets/Segmentation: {known}")


def _checked_root(data: DataConfig) -> str:
    root = storage.absolute(data.root or "")
    for place in (root, storage.join(root, "JPEGImages")):
        if not storage.exists(place):
            raise UserError(
                f"data.root: there is no folder {place}; source voc needs the folder that holds JPEGImages, "
                "such as VOCdevkit/VOC2012"
            )
    return root


def _list_url(root: str, name: str) -> str:
    return storage.join(root, "ImageSets", "Segmentation", f"{name}.txt")


def _train_aug(root: str, sbd_lists: tuple[str, str] | None) -> list[str]:
    if sbd_lists is None:
        raise UserError(
            f"data: there is no list {_list_url(root, 'train_aug')}; put it there, or set data.sbd_lists to "
            "SBD's train.txt and val.txt, from which it is built"
        )
    train, val = _list_url(root, "train"), _list_url(root, "val")
    for url in (train, val, *sbd_lists):
        if not storage.exists(url):
            raise UserError(f"data: split train_aug is built from the list {url}, which does not exist")
    names = {name for url in (train, *sbd_lists) for name in _read_list(url)}
    return sorted(names.difference(_read_list(val)))


def _read_list(url: str) -> list[str]:
    try:
        text = storage.read_bytes(url).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"data: the list {url} is not a text file") from error
    return [line.split()[0] for line in text.splitlines() if line.strip()]


def _entries(folder: str, suffix: str) -> dict[str, Entry]:
    """Stems and entries of a folder's files, sorted by name."""
    found = {}
    for entry in storage.list_entries(folder):
        name = entry.url.removeprefix(folder + "/")
        if name.endswith(suffix) and "/" not in name:
            found[name.removesuffix(suffix)] = entry
    return found


def _item(data: DataConfig, root: str, images: dict[str, Entry], masks: set[str], labeled: bool, name: str) -> Item:
    image_id = name if is_plain(name) else hashed_id(name, name)
    if "/" in name or "\\" in name or name.startswith(".") or not name.isprintable():
        return Item(
            image_id,
            storage.join(root, "JPEGImages"),
            reason="bad_id",
            message=f"{name!r} is not an image id; a list holds ids such as 2007_000032, without a folder",
        )
    uri = storage.join(root, "JPEGImages", f"{name}.jpg")
    mask_uri = storage.join(root, "SegmentationClass", f"{name}.png") if name in masks else None
    entry = images.get(name, Entry(uri, None, None))
    item = Item(image_id, uri, mask_uri=mask_uri, size=entry.size, version=entry.version)
    if not labeled:
        return item
    annotation = storage.join(root, "Annotations", f"{name}.xml")
    try:
        names = object_names(storage.fetch(annotation))
        return replace(item, keys=label_keys(names, data.class_list, data.unknown_classes == "ignore"))
    except RowError as error:
        reason = "no_label" if error.reason in ("missing", "empty_file") else error.reason
        return replace(item, reason=reason, message=f"{annotation}: {error.message}")
