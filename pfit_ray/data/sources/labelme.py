"""Source: images with LabelMe's JSON files."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from pfit_ray import storage
from pfit_ray.config.data import DataConfig
from pfit_ray.data.coco_masks import OUTLINES
from pfit_ray.data.images import IMAGE_SUFFIXES
from pfit_ray.data.sources.files import find_files
from pfit_ray.data.sources.item import Item, path_id, printable
from pfit_ray.data.sources.labels import find_class, folded
from pfit_ray.data.sources.mask_ids import is_no_class
from pfit_ray.data.sources.notes import Notes
from pfit_ray.data.sources.shapes import Shape, with_shapes
from pfit_ray.data.sources.spill import TextMap
from pfit_ray.errors import RowError
from pfit_ray.storage import Entry
from pfit_ray.storage.threads import prefetch

_READERS = 16
_AHEAD = 128
_NO_LABELME = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What reading a JSON that is not LabelMe's may raise."""


def list_labelme(data: DataConfig, notes: Notes) -> Iterator[Item]:
    """Every image below `data.root`, sorted by path, with the JSON of its name.

    The labels of an image are those of its shapes, and its flags that are set and name a class; an image without a
    JSON is one that nobody has labelled yet. With `data.draw_masks` ground truth is painted as LabelMe does, later
    shapes over earlier ones.

    Args:
        data: the source; `data.annotations` is the folder of the JSONs, where they do not lie beside their images.
        notes: is told what is left out.

    Raises:
        UserError: when a folder is missing.
    """
    images = find_files(data.root or "", IMAGE_SUFFIXES, notes=notes, known=_Jsons())
    folder = data.annotations or data.root or ""
    files = TextMap(
        (folded(path.rpartition(".")[0]), entry.url)
        for path, entry in find_files(folder, (".json",), "data.annotations")
    )
    return _items(data, images, files, notes)


class _Jsons:
    """The URLs of all JSON files, which are no files that a listing leaves out."""

    def __contains__(self, url: object) -> bool:
        return str(url).lower().endswith(".json")


def _items(data: DataConfig, images: Iterator[tuple[str, Entry]], files: TextMap, notes: Notes) -> Iterator[Item]:
    def located() -> Iterator[tuple[Item, str | None]]:
        for path, entry in images:
            key = folded(path.rpartition(".")[0])
            files.claim(key)
            item = Item(path_id(path), printable(entry.url), size=entry.size, version=entry.version)
            if printable(path) != path:
                item = replace(item, reason="bad_id", message=f"the file name {printable(path)!r} is not UTF-8")
            yield item, next(iter(files.get(key)), None)

    for item, found in prefetch(partial(_read, data), located(), _READERS, _AHEAD):
        if isinstance(found, RowError):
            yield replace(item, reason=found.reason, message=found.message)
        elif found is None and item.reason is not None:
            yield item
        elif found is None:
            notes.add("images without a JSON of LabelMe, whose labels are unknown", item.image_id)
            yield item
        else:
            shapes, size = found
            yield with_shapes(data, item, shapes, size, notes)
    count, first = files.unclaimed()
    if count:
        notes.add("JSON files of LabelMe without an image of their name", first, count=count)


def _read(
    data: DataConfig, located: tuple[Item, str | None]
) -> tuple[Item, tuple[list[Shape], tuple[Any, Any]] | RowError | None]:
    """What the JSON of an image says, or why it cannot be read."""
    item, url = located
    if url is None or item.reason is not None:
        return item, None
    try:
        shapes, flags, size = _parse(storage.fetch(url))
        shapes += [Shape(name, ()) for name in flags if find_class(name, data.class_list)]
        return item, (shapes, size)
    except RowError as error:
        return item, RowError("no_label" if error.reason == "empty_file" else error.reason, error.message)
    except _NO_LABELME as error:
        return item, RowError("no_label", f"{url} is not a JSON of LabelMe: {type(error).__name__} {error}")


def _parse(data: bytes) -> tuple[list[Shape], list[str], tuple[Any, Any]]:
    """The shapes, the flags that are set, and height and width in a JSON of LabelMe."""
    document = json.loads(data)
    shapes = [Shape(str(one["label"]), _segmentation(one)) for one in document["shapes"]]
    flags = [name for name, told in (document.get("flags") or {}).items() if told]
    return shapes, flags, (document.get("imageHeight"), document.get("imageWidth"))


def _segmentation(shape: dict[str, Any]) -> dict[str, Any] | None:
    kind = shape.get("shape_type") or "polygon"
    if kind == "mask":
        return {"png": shape["mask"], "corner": shape["points"][0]}
    return {"outline": kind, "points": shape["points"]} if kind in OUTLINES else None


def class_names(root: str) -> tuple[str, ...]:
    """The names of the shapes below a folder that are classes, sorted; files that are not LabelMe's have none."""

    def names(url: str) -> set[str]:
        try:
            return {shape.name for shape in _parse(storage.fetch(url))[0]}
        except RowError:
            return set()
        except _NO_LABELME:
            return set()

    urls = (entry.url for _, entry in find_files(root, (".json",)))
    found = {name for some in prefetch(names, urls, _READERS, _AHEAD) for name in some}
    return tuple(sorted(name for name in found if not is_no_class(name)))
