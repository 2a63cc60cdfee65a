"""The images of a run's source, in a fixed order."""

import hashlib
from collections.abc import Callable, Iterator
from importlib import resources
from itertools import chain, islice

from pfit_ray import storage
from pfit_ray.config.data import DataConfig, ImageSetConfig
from pfit_ray.data.sources.coco import list_coco
from pfit_ray.data.sources.cvat import list_cvat
from pfit_ray.data.sources.folder import list_folder
from pfit_ray.data.sources.item import Item
from pfit_ray.data.sources.labelme import list_labelme
from pfit_ray.data.sources.notes import Notes
from pfit_ray.data.sources.parquet import list_parquet
from pfit_ray.data.sources.table import list_table
from pfit_ray.data.sources.tar import list_tar
from pfit_ray.data.sources.voc import list_voc
from pfit_ray.errors import UserError

_HASH_BYTES = 8

SAMPLES = {
    "chelsea.png": "cat",
    "coffee.png": "cup",
    "motorcycle_left.png": "motorbike",
    "motorcycle_right.png": "motorbike",
    "rocket.jpg": "rocket",
}
"""Colour images inside scikit-image's wheel, which need no download, and the one class that each shows."""


def list_samples(data: DataConfig, notes: Notes) -> Iterator[Item]:
    """The `SAMPLES` of the listed classes, sorted by name; there are no masks."""
    folder = resources.files("skimage") / "data"
    for name, class_name in sorted(SAMPLES.items()):
        class_id = data.class_list.ids.get(class_name)
        if class_id is not None:
            place = str(folder / name)
            entry = next(storage.list_entries(place))
            yield Item(name.partition(".")[0], place, (class_id,), size=entry.size)


_LISTS: dict[str, Callable[[DataConfig, Notes], Iterator[Item]]] = {
    "folder": list_folder,
    "class_folders": list_folder,
    "cvat": list_cvat,
    "labelme": list_labelme,
    "table": list_table,
    "tar": list_tar,
    "parquet": list_parquet,
    "samples": list_samples,
}


def list_images(data: DataConfig, images: ImageSetConfig, notes: Notes | None = None) -> Iterator[Item]:
    """The images of one image set, lazily; a problem with one image's label is in its item.

    Lists, tables, tar and Parquet files keep their own order; everything else is sorted by path. `data.shard` and
    `data.sample` choose first, then `limit` counts.

    Args:
        data: the source.
        images: which of its images.
        notes: gets what the listing notices besides the images; it is complete when all images have been read.

    Raises:
        UserError: at once, when the source, its list or its label table is missing or unusable, or when
            there is no image.
    """
    notes = Notes() if notes is None else notes
    if data.source == "voc":
        items = list_voc(data, images.split, notes)
    elif data.source == "coco":
        items = list_coco(data, images.split, notes)
    elif images.split is not None:
        raise UserError(
            f"data: source {data.source!r} has no lists, so split {images.split!r} has no effect; "
            "remove it or use source voc or coco"
        )
    else:
        items = _LISTS[data.source](data, notes)
    taken = selection(data)
    items = islice((item for item in items if taken(item.image_id)), images.limit)
    first = next(items, None)
    if first is None:
        raise UserError(_nothing_found(data, images.split))
    return chain([first], items)


def _nothing_found(data: DataConfig, split: str | None) -> str:
    place = f"the list {split!r}" if split else repr(data.table if data.source == "table" else data.root)
    remedy = "check data.table" if data.source == "table" else "check data.root and the list"
    if data.sample is not None or data.shard is not None:
        remedy += ", or take more by data.sample and data.shard"
    return f"data: source {data.source!r} found no image in {place}; {remedy}"


def selection(data: DataConfig) -> Callable[[str], bool]:
    """A test of whether a run takes an image, by its id.

    An image is in the sample where the 64-bit hash of `data.sample_seed` and its id lies below the share
    `data.sample` of all hashes, and in shard i of n where another hash of its id is i - 1 modulo n. Both depend on
    nothing else, so the shards of one corpus are disjoint and complete, and a larger sample holds the smaller.
    """
    bound = None if data.sample is None else int(data.sample * 2 ** (8 * _HASH_BYTES))
    shard, shards = data.shard_numbers

    def taken(image_id: str) -> bool:
        if shards > 1 and _hash("shard", image_id) % shards != shard - 1:
            return False
        return bound is None or _hash(f"sample {data.sample_seed}", image_id) < bound

    return taken


def _hash(purpose: str, image_id: str) -> int:
    digest = hashlib.blake2b(f"{purpose}\n{image_id}".encode(), digest_size=_HASH_BYTES).digest()
    return int.from_bytes(digest, "big")
