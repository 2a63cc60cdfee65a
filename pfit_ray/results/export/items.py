"""The labelled images of a pass, one after the other, shard by shard."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from pfit_ray.constants import OK, Row
from pfit_ray.data.image_bytes import fetch_images
from pfit_ray.data.images import decode_mask
from pfit_ray.data.label_shards import iterate_shard
from pfit_ray.data.sources.item import is_plain
from pfit_ray.errors import RowError
from pfit_ray.rundir.directory import IMAGE_SET, RunDirectory, ShardFiles
from pfit_ray.rundir.manifest import iterate_shards
from pfit_ray.rundir.published import read_published
from pfit_ray.storage.ranges import read_columns
from pfit_ray.tasks.results import RESULT_FIELDS

CHUNK = 64
"""Images that are held in memory together."""
READERS = 8


@dataclass
class LabelledImage:
    """One image with its label map.

    Args:
        image_id: safe as a file name.
        height: rows of the upright image, pixels.
        width: columns of it.
        keys: ascending class ids of its label.
        scores: what the pass thinks of it, by name, each in [0, 1].
        png: the label map, a palette PNG of its class ids.
        source: the manifest's row: where the image is.
        encoded: the image's bytes, where they were asked for.
    """

    image_id: str
    height: int
    width: int
    keys: list[int]
    scores: dict[str, float]
    png: bytes
    source: Row
    encoded: bytes | None = None

    @cached_property
    def label(self) -> np.ndarray:
        """Class ids, uint8 (H, W); 0 is background, 255 is unsure.

        Raises:
            RowError: when the PNG is damaged or has another size than the image.
        """
        return decode_mask(self.png, (self.height, self.width))


def score_names(pass_name: str) -> list[str]:
    """The scores that a pass gives to each image."""
    return [name for name, kind in RESULT_FIELDS[pass_name] if kind == pa.float32()]


def labelled_images(
    run: RunDirectory, pass_name: str, shards: Iterable[int], with_images: bool, failed: Counter[str]
) -> Iterator[LabelledImage | tuple[str, RowError]]:
    """Images of finished shards in their order; memory holds the label maps of one shard and 64 images.

    Args:
        run: the run directory.
        pass_name: `labels` or `predict`.
        shards: numbers of finished shards, ascending.
        with_images: read the images too.
        failed: counts the images of the read shards that failed in the pass, by reason.

    Yields:
        An image, or an id and why that image cannot be had.

    Raises:
        UserError: when a shard of the run is damaged.
    """
    columns = ["image_id", "height", "width", "keys", *score_names(pass_name)]
    for shard, listed in iterate_shards(run, IMAGE_SET[pass_name], shards):
        sources = {row["image_id"]: row for row in listed if row["status"] == OK}
        found, labels, reasons = read_published(run, pass_name, shard, partial(_read_shard, columns))
        failed.update(reasons)
        rows = iter(found)
        while chunk := list(islice(rows, CHUNK)):
            yield from _chunk(chunk, labels, sources, with_images)


def _read_shard(columns: list[str], files: ShardFiles) -> tuple[list[Row], dict[str, bytes], list[str]]:
    """Rows of a shard, label maps by image id, and why its other images failed: all of one time."""
    rows: list[Row] = read_columns(files.rows.url, columns, files.rows.size).to_pylist()
    failures = files.failures
    reasons = [] if failures is None else read_columns(failures.url, ["reason"], failures.size)["reason"].to_pylist()
    return rows, dict(iterate_shard(files.labels.url)), reasons


def _chunk(
    rows: list[dict[str, Any]], labels: dict[str, bytes], sources: dict[str, Row], with_images: bool
) -> Iterator[LabelledImage | tuple[str, RowError]]:
    places = [sources[row["image_id"]] for row in rows if row["image_id"] in sources]
    if with_images:
        fetch_images(places, READERS)
    for row in rows:
        image_id = row.pop("image_id")
        place = sources.pop(image_id, None)
        png = labels.pop(image_id, None)
        if not is_plain(image_id):
            yield image_id, RowError("bad_id", f"{image_id!r} is unsafe as a file name")
        elif place is None or png is None:
            yield image_id, RowError("missing", "the run has no label map or no manifest row of this image")
        elif place["status"] != OK:
            yield image_id, RowError(place["reason"], place["message"])
        else:
            height, width, keys = row.pop("height"), row.pop("width"), row.pop("keys")
            yield LabelledImage(image_id, height, width, keys, row, png, place, place.pop("encoded", None))
