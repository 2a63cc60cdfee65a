"""Source: COCO's instances JSON with its folder of images."""

import json
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from pfit_ray import storage
from pfit_ray.config.data import DataConfig
from pfit_ray.constants import IGNORE
from pfit_ray.data.coco_masks import Annotation, pack_masks
from pfit_ray.data.images import IMAGE_SUFFIXES
from pfit_ray.data.sources.files import find_files
from pfit_ray.data.sources.item import Item, hashed_id, path_id, printable
from pfit_ray.data.sources.json_elements import json_elements
from pfit_ray.data.sources.labels import find_class, folded, labelled
from pfit_ray.data.sources.notes import Notes
from pfit_ray.data.sources.spill import TextMap
from pfit_ray.errors import RowError, UserError
from pfit_ray.storage.ranges import open_seekable

_BLOCK = 1 << 23
_TRIED = 20
"""How many images are looked for in each folder that may hold them."""
_ANNOTATION, _IMAGE = 0, 1


@dataclass
class _Instances:
    """The content of a JSON: its images and annotations by the image's id, in a temporary table."""

    url: str
    categories: dict[str, str]
    by_image: TextMap
    annotated: bool
    """Whether there is any annotation."""


def list_coco(data: DataConfig, split: str | None, notes: Notes) -> Iterator[Item]:
    """The images of an instances JSON, in its order.

    The labels of an image are the categories that its annotations name, crowds among them; an image without
    annotations shows no class, unless there is no annotation at all: then the labels are unknown. Categories are
    found by name, whatever their ids. With `data.draw_masks` the ground truth is drawn from the annotations when it is
    read (`pfit_ray.data.coco_masks`).

    Args:
        data: the source; `data.root` has the JSON, below annotations or beside the images, and the images, in a folder
            named like the split, in `images`, or itself.
        split: the NAME of instances_NAME.json, or the URL of a JSON.
        notes: gets what is left out.

    Raises:
        UserError: when the JSON or the images cannot be found, or the JSON is damaged.
    """
    root = storage.absolute(data.root or "")
    if not storage.exists(root):
        raise UserError(f"data.root: there is no folder {root}")
    url = _json_url(data, root, split)
    instances = _read(url, data.draw_masks)
    return _items(data, instances, _image_folder(root, instances, url), notes)


def _json_url(data: DataConfig, root: str, split: str | None) -> str:
    if data.annotations is not None and split is not None:
        raise UserError(f"data: split {split!r} has no effect beside data.annotations; remove one of them")
    given = data.annotations or (split if split and split.lower().endswith(".json") else None)
    if given is not None:
        given = storage.absolute(given)
        if not storage.exists(given):
            raise UserError(f"data: there is no file {given}")
        return given
    folder = storage.join(root, "annotations")
    if split is not None:
        places = [
            storage.join(folder, f"instances_{split}.json"),
            storage.join(folder, f"{split}.json"),
            storage.join(root, split, "_annotations.coco.json"),
            storage.join(root, f"{split}.json"),
        ]
        found = [place for place in places if storage.exists(place)][:1]
    else:
        below = [path for path, _ in find_files(root, (".json",)) if path.count("/") == path.startswith("annotations/")]
        instances = [path for path in below if path.rpartition("/")[2].startswith("instances")]
        found = [storage.join(root, path) for path in (instances if len(instances) == 1 else below)]
    if len(found) != 1:
        there = ", ".join(path.rpartition("/")[2] for path in islice(found, 8)) or "none"
        wanted = (
            f"there is no {folder}/instances_{split}.json" if split else f"{root} must have one JSON file ({there})"
        )
        raise UserError(f"data: {wanted}; name the JSON by data.train.split, or by data.annotations")
    return found[0]


def _read(url: str, with_masks: bool) -> _Instances:
    categories: dict[str, str] = {}
    annotated = False

    def pairs() -> Iterator[tuple[str, str]]:
        nonlocal annotated
        for name, one in json_elements(file):
            if name == "categories":
                categories[_key(one["id"])] = str(one["name"])
            elif name == "images":
                yield _key(one["id"]), json.dumps([_IMAGE, one["file_name"], one.get("height"), one.get("width")])
            elif name == "annotations":
                annotated = True
                segmentation = one.get("segmentation") if with_masks else None
                told = [_ANNOTATION, _key(one["category_id"]), bool(one.get("iscrowd")), segmentation]
                yield _key(one["image_id"]), json.dumps(told, separators=(",", ":"))

    try:
        with open_seekable(url, block=_BLOCK) as file:
            by_image = TextMap(pairs())
    except (ValueError, RecursionError) as error:
        raise UserError(f"data: {url} is not a valid JSON file: {error}") from error
    except (KeyError, TypeError) as error:
        raise UserError(f"data: {url} is not an instances file of COCO: an entry lacks {error}") from error
    if not categories:
        raise UserError(f"data: {url} is not an instances file of COCO: it has no categories")
    return _Instances(url, categories, by_image, annotated)


def _key(value: object) -> str:
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)


def _image_folder(root: str, instances: _Instances, url: str) -> str:
    """The folder below which the images lie."""
    beside = url.rpartition("/")[0]
    name = url.rpartition("/")[2].rpartition(".")[0].removeprefix("instances_")
    folders = [
        storage.join(root, "images", name),
        storage.join(root, name),
        storage.join(root, "images"),
        storage.join(root, "data"),
        storage.join(beside, "images"),
        beside,
        root,
    ]
    entries = (json.loads(value) for _, values in instances.by_image.groups() for value in values if value)
    names = list(islice((entry[1] for entry in entries if entry[0] == _IMAGE), _TRIED))
    for folder in folders:
        if any(_is_inside(name) and storage.exists(storage.join(folder, folded(name))) for name in names):
            return folder
    if not names:
        raise UserError(f"data: {url} lists no images; check that it is the right file")
    raise UserError(
        f"data: the first {len(names)} images of {url}, such as {names[0]!r}, are in none of the folders "
        f"{', '.join(dict.fromkeys(folders))}; set data.root to the images' folder and data.annotations to the JSON"
    )


def _is_inside(name: object) -> bool:
    return isinstance(name, str) and bool(name) and ".." not in folded(name).split("/") and not name.startswith("/")


def _items(data: DataConfig, instances: _Instances, folder: str, notes: Notes) -> Iterator[Item]:
    files = listed_files(folder, notes, (instances.url,))
    in_folders = False
    for key, values in instances.by_image.groups():
        entries = [json.loads(value) for value in values if value is not None]
        images = [entry for entry in entries if entry[0] == _IMAGE]
        annotations = [entry[1:] for entry in entries if entry[0] == _ANNOTATION]
        if len(images) > 1:
            raise UserError(f"data: image id {key} occurs twice in {instances.url}; remove one of the entries")
        if not images:
            notes.add(f"annotations of {instances.url} that name no image", f"image_id {key}", count=len(annotations))
            continue
        _, name, height, width = images[0]
        if refused := outside(name, folder):
            yield refused
            continue
        in_folders |= "/" in folded(name)
        yield _item(data, instances, find_listed(files, folder, name), annotations, (height, width), notes)
    count, first = files.unclaimed()
    if count and not (in_folders and instances.url.startswith(folder)):
        notes.add(f"images that {instances.url} does not name, left out", first, count=count)


def listed_files(folder: str, notes: Notes, known: Container[str | None]) -> TextMap:
    """The images below a folder by their path; see `find_files`."""
    return TextMap(
        (folded(path), json.dumps([entry.url, entry.size, entry.version]))
        for path, entry in find_files(folder, IMAGE_SUFFIXES, notes=notes, known=known)
    )


def outside(name: object, folder: str) -> Item | None:
    """The failed row of an image whose name is no path below the folder of the images."""
    if _is_inside(name):
        return None
    message = f"{printable(str(name))!r} is not a path below the folder of the images"
    return Item(hashed_id("image", str(name)), folder, reason="bad_id", message=message)


def find_listed(files: TextMap, folder: str, name: str) -> Item:
    """An image by the name that annotations give it, among `listed_files`; also where there is no such file."""
    path = folded(name)
    entry = next(iter(files.get(path)), None)
    files.claim(path)
    url, size, version = json.loads(entry) if entry else (storage.join(folder, path), None, None)
    return Item(path_id(path), printable(url), size=size, version=version)


def _item(
    data: DataConfig,
    instances: _Instances,
    item: Item,
    annotations: list[list[Any]],
    size: tuple[Any, Any],
    notes: Notes,
) -> Item:
    if not instances.annotated:  # the list of a test set
        notes.add(f"images without a label, because {instances.url} has no annotation at all", item.image_id)
        return item
    if data.draw_masks:
        item = replace(item, mask_uri=_mask(data, instances, item, annotations, size, notes))

    def names() -> list[str]:
        strange = [category for category, _, _ in annotations if category not in instances.categories]
        if strange:
            raise RowError("no_label", f"{instances.url} has no category {strange[0]}, which an annotation names")
        return [instances.categories[category] for category, _, _ in annotations]

    return labelled(item, data, names, notes)


def _mask(
    data: DataConfig,
    instances: _Instances,
    item: Item,
    annotations: list[list[Any]],
    size: tuple[Any, Any],
    notes: Notes,
) -> str | None:
    """The ground truth as `draw_masks` draws it; None where an annotation has no mask."""
    drawn: list[Annotation] = []
    for category, crowd, segmentation in annotations:
        key = find_class(instances.categories.get(category, ""), data.class_list)
        if key is None:
            continue
        if not segmentation:
            notes.add("images without ground truth, because an annotation has a box and no mask", item.image_id)
            return None
        drawn.append((IGNORE if crowd else key, segmentation))
    if not all(isinstance(side, int) and side > 0 for side in size):
        notes.add("images without ground truth, because the JSON does not have their size", item.image_id)
        return None
    return pack_masks(*size, drawn)
