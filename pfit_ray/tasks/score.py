"""Score one shard of a pass against ground truth: confusion matrices of maps and label maps."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pfit_ray import storage
from pfit_ray.errors import RowError
from pfit_ray.images import decode_mask
from pfit_ray.layout import IMAGE_SET, LABEL_COLUMN, RunDirectory
from pfit_ray.manifest import read_manifest_shard
from pfit_ray.ops.cam import resize_maps
from pfit_ray.ops.evaluation import confusion, threshold_sweep
from pfit_ray.schema import IGNORE, OK
from pfit_ray.shards import read_member
from pfit_ray.tasks.encode import array_from_bytes

ShardScore = tuple[dict[str, np.ndarray], int, list[str]]
"""Confusion matrices by name, images with ground truth, and a sentence for each mask that cannot be used."""

SCORED_MAPS = {"seeds": ("cam", "combined_cam"), "labels": ("walk",), "predict": ()}
"""Strided maps of each pass that are scored over a sweep of thresholds."""

SCORED_LABELS = ("labels", "predict")
"""Passes whose label map is complete; affinity labels are not, they leave unsure pixels open."""


class ShardScorer:
    """Adds up one shard's confusion matrices.

    Args:
        run: the run directory.
        pass_name: `seeds`, `labels` or `predict`.
        n_classes: number of foreground classes.
        lookup: uint8 (256,), from the masks' label ids to the run's.
        thresholds: background values of the sweep.
    """

    def __init__(
        self,
        run: RunDirectory,
        pass_name: str,
        n_classes: int,
        lookup: np.ndarray,
        thresholds: Sequence[float],
    ) -> None:
        self.run = run
        self.pass_name = pass_name
        self.n_classes = n_classes
        self.lookup = lookup
        self.thresholds = list(thresholds)

    def __call__(self, shard: int) -> ShardScore:
        """Score one shard: a matrix per label map, a stack of matrices (one per threshold) per strided map."""
        masks = {
            row["image_id"]: row["mask_uri"]
            for row in read_manifest_shard(self.run, IMAGE_SET[self.pass_name], shard)
            if row["status"] == OK and row["mask_uri"]
        }
        totals: dict[str, np.ndarray] = {}
        images = 0
        problems: list[str] = []
        if not masks:
            return totals, images, problems
        data = storage.read_bytes(self.run.rows(self.pass_name, shard))
        for row in pq.read_table(io.BytesIO(data)).to_pylist():
            if row["image_id"] not in masks:
                continue
            try:
                truth = self._truth(masks[row["image_id"]], (row["height"], row["width"]))
                matrices = self._matrices(shard, row, truth)
            except RowError as error:
                problems.append(f"{row['image_id']}: {error.message}")
                continue
            for name, matrix in matrices.items():
                totals[name] = totals.get(name, 0) + matrix
            images += 1
        return totals, images, problems

    def _truth(self, uri: str, size: tuple[int, int]) -> np.ndarray:
        truth = self.lookup[decode_mask(storage.fetch(uri), size)]
        labels = truth[truth != IGNORE]
        if labels.size and labels.max() > self.n_classes:
            raise RowError(
                "bad_mask",
                f"the mask {uri} holds label {labels.max()} and there are {self.n_classes} classes",
            )
        return truth

    def _matrices(self, shard: int, row: dict[str, Any], truth: np.ndarray) -> dict[str, np.ndarray]:
        result = {}
        keys = np.asarray(row["keys"], dtype=np.int32)
        for name in SCORED_MAPS[self.pass_name]:
            maps = resize_maps(array_from_bytes(row[name]), *truth.shape)
            result[name] = threshold_sweep(maps, keys, truth, self.thresholds, self.n_classes)
        if self.pass_name in SCORED_LABELS:
            data = read_member(self.run.labels(self.pass_name, shard), row["label_offset"], row["label_size"])
            result[LABEL_COLUMN[self.pass_name]] = confusion(decode_mask(data), truth, self.n_classes)
        return result
