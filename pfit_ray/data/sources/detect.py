"""What a folder holds: class folders, a label table, annotations of a tool, tar or Parquet files, or images alone."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pfit_ray import storage
from pfit_ray.constants import MAX_CLASSES, VOC_CLASSES
from pfit_ray.data.images import IMAGE_SUFFIXES
from pfit_ray.data.sources import cvat, labelme
from pfit_ray.data.sources.files import relative
from pfit_ray.data.sources.label_table import IMAGE_NAMES, LABEL_NAMES, find_column
from pfit_ray.data.sources.labels import LABEL_COLUMN, Cell, as_cell, cell_names
from pfit_ray.data.sources.mask_ids import LABELMAP, is_no_class, labelmap_classes
from pfit_ray.data.sources.rows import read_rows
from pfit_ray.errors import RowError, UserError

_FLAGS = frozenset(("0", "1", "0.0", "1.0", "", "None"))
_NO_CLASS = "\0"
_NO_CLASSES = ("unlabeled", "background")
"""Columns of 0 and 1 for images without a class, as Roboflow writes them."""
_SEPARATED = re.compile(r"[;|,\[{(]")
_SPLITS = frozenset(("train", "training", "val", "valid", "validation", "test"))
_TABLES = (".csv", ".tsv", ".jsonl")
_MOST_BYTES = 64 << 20
_IN_ARCHIVE = 1000
"""Images that a tar or Parquet file is taken to hold."""
_MOST_ENTRIES = 2_000_000


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Args:
        source: value of `data.source`.
        images: about how many there are; tar and Parquet files are not opened.
        classes: names of the foreground classes, where the folder tells them.
        labelled: whether image-level labels come with the images.
        fields: further fields of the config's section `data`.
        told: what was found, in lines.
    """

    source: str
    images: int
    classes: tuple[str, ...] = ()
    labelled: bool = False
    fields: dict[str, Any] = field(default_factory=dict)
    told: tuple[str, ...] = ()


def detect(place: str) -> Found:
    """Look at a folder or URL prefix; files are counted by their names, and only tables are read.

    Raises:
        UserError: when there is no such folder, or nothing in it that a source reads.
    """
    root = storage.absolute(place)
    if not storage.exists(root):
        raise UserError(f"there is no folder {place!r}")
    paths = _paths(root)
    images = [path for path in paths if path.lower().endswith(IMAGE_SUFFIXES)]
    if any(path.startswith("JPEGImages/") for path in images):
        return _voc(root, images)
    if coco := [path for path in paths if path.endswith(".json") and _is_coco(root, path)]:
        return _coco(root, coco, images)
    if "annotations.xml" in paths:
        with suppress(UserError):  # it may be of another tool
            names = cvat.class_names(storage.join(root, "annotations.xml"))
            told = f"{len(images)} images and CVAT's annotations.xml with {len(names)} classes"
            return Found("cvat", len(images), names, True, told=(told,))
    if not images:
        return _archives(place, paths)
    stems = {path.rpartition(".")[0] for path in images}
    if any(path.endswith(".json") and path[:-5] in stems for path in paths) and (names := labelme.class_names(root)):
        told = f"{len(images)} images and JSON files of LabelMe with {len(names)} classes"
        return Found("labelme", len(images), names, True, told=(told,))
    if (parts := [path for path in paths if path.endswith("/_classes.csv")]) and (
        classes := tuple(sorted({name for path in parts for name in _table_classes(storage.join(root, path))}))
    ):
        told = f"{len(images)} images and {len(parts)} tables _classes.csv with {len(classes)} classes"
        return Found("folder", len(images), classes, True, {"labels": storage.join(place, "**/_classes.csv")}, (told,))
    tables = [path for path in paths if path.lower().endswith(_TABLES) and "/" not in path]
    for path in sorted(tables):
        if classes := _table_classes(storage.join(root, path)):
            told = f"{len(images)} images and the label table {path} with {len(classes)} classes"
            return Found("folder", len(images), classes, True, {"labels": storage.join(place, path)}, (told,))
    return _by_folder(images)


def _paths(root: str) -> list[str]:
    found = []
    for entry in storage.list_entries(root):
        path = relative(entry.url, root)
        if not path.startswith(".") and "/." not in path:
            found.append(path)
        if len(found) >= _MOST_ENTRIES:
            raise UserError(f"{root} has more than {_MOST_ENTRIES:,} files; start from configs/corpus.yaml")
    return found


def _voc(root: str, images: Sequence[str]) -> Found:
    count = sum(path.startswith("JPEGImages/") for path in images)
    lists = storage.join(root, "ImageSets", "Segmentation", "train.txt")
    fields = {"train": {"split": "train"}} if storage.exists(lists) else {}
    told = f"a VOC folder with {count} images" + (", of which the list train is taken" if fields else "")
    labelled = storage.exists(storage.join(root, "Annotations"))
    classes = labelmap_classes(storage.join(root, LABELMAP)) or VOC_CLASSES
    return Found("voc", count, classes, labelled, fields, (told,))


def _is_coco(root: str, path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.startswith("instances") or name == "_annotations.coco.json"


def _coco(root: str, files: Sequence[str], images: Sequence[str]) -> Found:
    chosen = sorted(files, key=lambda path: ("train" not in path, path))[0]
    data = _read(storage.join(root, chosen))
    try:
        names = tuple(one["name"] for one in sorted(json.loads(data)["categories"], key=lambda one: one["id"]))
        names = tuple(name for name in names if not is_no_class(name))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{chosen} is not a COCO instances file with categories ({error})") from error
    told = f"{len(images)} images and the COCO annotations {chosen} with {len(names)} categories"
    return Found("coco", len(images), names, True, {"annotations": storage.join(root, chosen)}, (told,))


def _archives(place: str, paths: Sequence[str]) -> Found:
    for source, suffix in (("tar", ".tar"), ("parquet", ".parquet")):
        if count := sum(path.lower().endswith(suffix) for path in paths):
            told = f"{count} {source} files; their labels, if any, are read with the images"
            return Found(source, count * _IN_ARCHIVE, labelled=True, told=(told,))
    kinds = Counter("." + path.rpartition(".")[2].lower() for path in paths if "." in path.rpartition("/")[2])
    has = ", ".join(f"{count} {suffix}" for suffix, count in kinds.most_common(3)) or "no files"
    raise UserError(f"{place} has no images, tar or Parquet files, only {has}; name a folder that has some")


def _by_folder(images: Sequence[str]) -> Found:
    """Class folders if each image lies in one, else images without labels."""
    below = [path.split("/")[:-1] for path in images]
    below = [folders[1:] if folders and folders[0].lower() in _SPLITS else folders for folders in below]
    tops = Counter(folders[0] for folders in below if folders)
    alone = sum(not folders for folders in below)
    names = tuple(sorted(name for name in tops if name.lower() != "background"))
    if alone or not 2 <= len(tops) or len(names) > MAX_CLASSES or len(tops) * 2 > len(images):
        told = f"{len(images)} images without labels"
        if tops:
            told += f", in {len(tops)} folder(s)" + (f" and {alone} beside them" if alone else "")
        return Found("folder", len(images), told=(told,))
    counts = ", ".join(f"{name} {tops[name]}" for name in sorted(tops)[:8]) + (", ..." if len(tops) > 8 else "")
    return Found(
        "class_folders", len(images), names, True,
        told=(f"{len(images)} images in {len(tops)} class folders ({counts})",),
    )  # fmt: skip


def _table_classes(url: str) -> tuple[str, ...]:
    """Class names of a label table; none if it is no such table or cannot be read."""
    name, label, flags, found = "", "", dict[str, bool](), set[str]()

    def choose(columns: Sequence[str]) -> Sequence[str] | str:
        nonlocal name, label, flags
        name = find_column(columns, ("image", "image_id", *IMAGE_NAMES)) or ""
        free = [column for column in columns if column and column != name]
        label = find_column(free, (LABEL_COLUMN, *LABEL_NAMES)) or ""
        flags = {} if label else dict.fromkeys(free, True)
        return [name, *([label] if label else free)] if name else "a column with the images"

    with suppress(UserError):
        for _, row in read_rows(url, "init", choose):
            if label:
                with suppress(RowError):  # the run says which row it cannot read
                    found.update(_names(as_cell(row.get(label))))
            for column in flags:
                flags[column] &= str(row.get(column)).strip() in _FLAGS
    if label:
        return tuple(sorted(found))
    return tuple(column for column, only in flags.items() if only and column.lower() not in _NO_CLASSES)


def _names(cell: Cell) -> list[str]:
    """Names in a cell while no class is known yet: blanks are read as part of a name."""
    if isinstance(cell, str) and not _SEPARATED.search(cell):
        return [cell.strip()] if cell.strip() else []
    return cell_names(cell, {_NO_CLASS}) or []


def _read(url: str) -> bytes:
    data = storage.read_bytes(url, 0, _MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise UserError(f"{url} is larger than {_MOST_BYTES >> 20} MB; name its classes by --classes")
    return data
