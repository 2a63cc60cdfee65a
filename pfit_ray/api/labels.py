"""The label maps of a run as a table, a Ray Dataset or a torch Dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pfit_ray.config import RunConfig
from pfit_ray.data.image_bytes import PLACE_FIELDS, fetch_image
from pfit_ray.data.images import check_size, decode_image, decode_mask
from pfit_ray.errors import UserError
from pfit_ray.rundir.directory import IMAGE_SET, RunDirectory
from pfit_ray.rundir.manifest import iterate_shards
from pfit_ray.rundir.published import read_label, read_rows
from pfit_ray.storage.drivers import reach
from pfit_ray.tasks.results import result_schema

if TYPE_CHECKING:
    import numpy as np
    import pandas
    import ray.data
    import torch.utils.data

_PASS_OF = {"pseudo_label": "labels", "prediction": "predict", "affinity_label": "seeds"}
_PLAIN = {
    name: [field.name for field in result_schema(name, ()) if not pa.types.is_binary(field.type)]
    for name in _PASS_OF.values()
}
"""Columns of each pass that hold no arrays."""


class Labels:
    """The label maps of the finished shards; nothing is read before it is asked for.

    Args:
        directory: the run.
        config: its config.
        kind: `pseudo_label`, `prediction` or `affinity_label`; None takes what there is, in this order.

    Raises:
        UserError: when the run has none.
    """

    def __init__(self, directory: RunDirectory, config: RunConfig, kind: str | None = None) -> None:
        if kind is not None and kind not in _PASS_OF:
            raise UserError(f"labels: there is no map {kind!r}; choose from {', '.join(_PASS_OF)}")
        reach(config.storage)
        for one in _PASS_OF if kind is None else (kind,):
            self.kind, self.pass_name = one, _PASS_OF[one]
            self.shards = directory.finished_numbers(self.pass_name)
            if self.shards:
                break
        else:
            raise UserError(f"labels: {directory.root} has no {kind or 'labels'} yet; finish its run first")
        self.directory = directory
        self.storage = config.storage
        self.max_pixels = config.images.max_pixels

    def __repr__(self) -> str:
        return f"Labels({self.directory.root!r}, {self.kind!r}, {len(self.shards)} shards)"

    def pandas(self) -> pandas.DataFrame:
        """One row per image, by image_id: size, `keys`, scores, and where image and label map lie; no arrays."""
        import pandas as pd

        rows = [row for shard in self.shards for row in self._rows(shard)]
        # In a pass all of whose images have failed, no row names the columns.
        columns = dict.fromkeys([*_PLAIN[self.pass_name], *(name for name, _ in PLACE_FIELDS), "label_url"])
        return pd.DataFrame(rows, columns=None if rows else list(columns)).set_index("image_id")

    def ray(self, images: bool = False) -> ray.data.Dataset:
        """A Ray Dataset: the columns of `pandas` and `label`, uint8 (H, W); shards are read where they are used.

        Args:
            images: add `image`, uint8 RGB (H, W, 3).
        """
        import ray.data

        shards = ray.data.from_items([{"shard": shard} for shard in self.shards])
        return shards.flat_map(partial(_decoded_shard, self, images))

    def torch(self, transform: Callable[[np.ndarray, np.ndarray], Any] | None = None) -> torch.utils.data.Dataset[Any]:
        """A map-style torch Dataset in the order of `pandas`; its items are decoded by whoever asks for them.

        Args:
            transform: makes an item of the image, uint8 RGB (H, W, 3), and the label map, uint8 (H, W); by
                default an item is a pair of tensors uint8 (3, H, W) and int64 (H, W).
        """
        from pfit_ray.api.torch_labels import TorchLabels

        return TorchLabels(
            [row for shard in self.shards for row in self._rows(shard)], self.max_pixels, transform, self.storage
        )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Each image's row with `label`, uint8 (H, W), shard by shard."""
        for shard in self.shards:
            yield from _decoded_shard(self, False, {"shard": shard})

    def _rows(self, shard: int) -> list[dict[str, Any]]:
        reach(self.storage)
        ((_, listed),) = iterate_shards(self.directory, IMAGE_SET[self.pass_name], [shard])
        places = {row["image_id"]: {name: row[name] for name, _ in PLACE_FIELDS} for row in listed if not row["reason"]}
        rows = read_rows(self.directory, self.pass_name, shard, _PLAIN[self.pass_name], small=True)
        return [{**row, **places[row["image_id"]]} for row in rows]


def decoded_label(row: dict[str, Any]) -> np.ndarray:
    """The label map of a row, uint8 (H, W)."""
    return decode_mask(read_label(row), (row["height"], row["width"]))


def decoded_image(row: dict[str, Any], max_pixels: int) -> np.ndarray:
    """The image of a row, uint8 RGB (H, W, 3).

    Raises:
        RowError: when it cannot be read, or is not the one that was labelled: it has another size.
    """
    image = decode_image(fetch_image(row), max_pixels)
    check_size(row["image_id"], image.shape[:2], (row["height"], row["width"]))
    return image


def _decoded_shard(labels: Labels, images: bool, item: dict[str, int]) -> list[dict[str, Any]]:
    rows = labels._rows(item["shard"])
    for row in rows:
        row["label"] = decoded_label(row)
        if images:
            row["image"] = decoded_image(row, labels.max_pixels)
    return rows
