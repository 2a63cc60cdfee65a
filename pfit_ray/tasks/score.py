"""Score one shard of a pass against ground truth: confusion matrices of maps and label maps."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pfit_ray.constants import BACKGROUND, IGNORE, OK
from pfit_ray.data.images import decode_mask
from pfit_ray.data.sources.mask_ids import MaskIds
from pfit_ray.errors import RowError
from pfit_ray.ops.cam.cam import resize_maps
from pfit_ray.ops.cam.thresholding import label_ids, strongest_class
from pfit_ray.ops.scores.bootstrap import pixel_counts
from pfit_ray.ops.scores.boundary import BoundaryCounter
from pfit_ray.ops.scores.evaluation import confusion, threshold_sweep
from pfit_ray.rundir.directory import IMAGE_SET, LABEL_COLUMN, RunDirectory
from pfit_ray.rundir.manifest import read_manifest_shard
from pfit_ray.rundir.published import read_label, read_rows
from pfit_ray.tasks.encode import array_from_bytes

SCORED_MAPS = {"seeds": ("cam", "combined_cam"), "labels": ("walk",), "predict": ()}
"""Strided maps of each pass that are scored over a sweep of thresholds."""

SCORED_LABELS = ("labels", "predict")
"""Passes whose label map is complete; affinity labels are not, they leave unsure pixels open."""


@dataclass
class MapScore:
    """What one or several images say of one kind of map; T is there only for maps that are thresholded.

    Args:
        matrix: confusion matrices, int64 ([T,] n_classes + 1, n_classes + 2), summed.
        boundary: pixels in the boundaries' bands, int64 ([T,] n_classes + 1, 3), summed; see `BoundaryCounter`.
        images: id of each image.
        counts: pixel counts of each image, int64 ([T,] n_classes + 1, 3); see `pixel_counts`.
    """

    matrix: np.ndarray | int = 0
    boundary: np.ndarray | int = 0
    images: list[str] = field(default_factory=list)
    counts: list[np.ndarray] = field(default_factory=list)

    def add(self, image_id: str, matrix: np.ndarray, boundary: np.ndarray | None) -> None:
        """Add one image."""
        self.matrix = self.matrix + matrix
        if boundary is not None:
            self.boundary = self.boundary + boundary
        self.images.append(image_id)
        self.counts.append(pixel_counts(matrix))


@dataclass
class ShardScore:
    """Scores by name of the map, images with ground truth, and a sentence for each mask that cannot be used.

    Args:
        maps: scores.
        images: how many have ground truth.
        problems: sentences.
        classless: ids of images that are labelled with a class, but whose masks hold only 0 and 255.
        above: ids of images whose masks hold class ids that the run does not have; they are among the problems.
    """

    maps: dict[str, MapScore] = field(default_factory=lambda: defaultdict(MapScore))
    images: int = 0
    problems: list[str] = field(default_factory=list)
    classless: list[str] = field(default_factory=list)
    above: list[str] = field(default_factory=list)


class GroundTruthScorer:
    """Compares maps of one image with its ground truth.

    Args:
        truth: uint8 (H, W): 0 = background, 1..n_classes, 255 = ignored.
        n_classes: number of foreground classes.
        thresholds: background values of the sweep.
        boundary: width of the boundaries' bands as a share of the image's diagonal; 0 leaves them out.
    """

    def __init__(self, truth: np.ndarray, n_classes: int, thresholds: Sequence[float], boundary: float) -> None:
        self.truth = truth
        self.n_classes = n_classes
        self.thresholds = thresholds
        self.boundary = BoundaryCounter(truth, n_classes, boundary) if boundary else None

    def label(self, label: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Confusion matrix and boundary counts of a label map, uint8 (H, W)."""
        matrix = confusion(label, self.truth, self.n_classes)
        return matrix, None if self.boundary is None else self.boundary.count(label)

    def maps(self, maps: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The same of class maps (K, h, w) of any size, with an axis of the thresholds before."""
        hr_maps = resize_maps(maps, *self.truth.shape)
        matrices = threshold_sweep(hr_maps, keys, self.truth, self.thresholds, self.n_classes)
        if self.boundary is None:
            return matrices, None
        values, winners = strongest_class(hr_maps)
        labels = label_ids(keys)[winners]
        counts = []
        for level in self.thresholds:
            counts.append(self.boundary.count(np.where(values > np.float32(level), labels, BACKGROUND)))
        return matrices, np.stack(counts)


class ShardScorer:
    """Adds up one shard's confusion matrices.

    Args:
        run: the run directory.
        pass_name: `seeds`, `labels` or `predict`.
        n_classes: number of foreground classes.
        ids: how the masks' numbers or colours are understood.
        thresholds: background values of the sweep.
        boundary: width of the boundaries' bands as a share of the image's diagonal; 0 leaves them out.
    """

    def __init__(
        self,
        run: RunDirectory,
        pass_name: str,
        n_classes: int,
        ids: MaskIds,
        thresholds: Sequence[float],
        boundary: float,
    ) -> None:
        self.run = run
        self.pass_name = pass_name
        self.n_classes = n_classes
        self.ids = ids
        self.thresholds = list(thresholds)
        self.boundary = boundary

    def __call__(self, shard: int) -> ShardScore:
        """Score one shard."""
        masks = {
            row["image_id"]: row["mask_uri"]
            for row in read_manifest_shard(self.run, IMAGE_SET[self.pass_name], shard)
            if row["status"] == OK and row["mask_uri"]
        }
        result = ShardScore()
        if not masks:
            return result
        for row in read_rows(self.run, self.pass_name, shard):
            image_id = row["image_id"]
            if image_id not in masks:
                continue
            try:
                truth = read_ground_truth(masks[image_id], self.ids, self.n_classes, (row["height"], row["width"]))
                scored = self._scored(row, truth)
            except RowError as error:
                result.problems.append(f"{image_id}: {error.message}")
                if isinstance(error, IdsAboveError):
                    result.above.append(image_id)
                continue
            for name, (matrix, boundary) in scored.items():
                result.maps[name].add(image_id, matrix, boundary)
            result.images += 1
            if row["keys"] and is_classless(truth):
                result.classless.append(image_id)
        return result

    def _scored(self, row: dict[str, Any], truth: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
        scorer = GroundTruthScorer(truth, self.n_classes, self.thresholds, self.boundary)
        keys = np.asarray(row["keys"], dtype=np.int32)
        result = {name: scorer.maps(array_from_bytes(row[name]), keys) for name in SCORED_MAPS[self.pass_name]}
        if self.pass_name in SCORED_LABELS:
            result[LABEL_COLUMN[self.pass_name]] = scorer.label(decode_mask(read_label(row)))
        return result


def is_classless(truth: np.ndarray) -> bool:
    """Whether a mask has pixels that are ignored and background, and no class: 255 may have meant the class."""
    return bool((truth == IGNORE).any() and np.isin(truth, (BACKGROUND, IGNORE)).all())


def classless_note(images: Sequence[str]) -> str:
    """The sentence about images whose masks are `is_classless`."""
    return (
        f"{len(images)} masks hold 0 and 255 alone, such as that of {images[0]}: 255 is ignored, so that only the "
        "background of these is compared; if 255 is the class, save its id instead"
    )


class IdsAboveError(RowError):
    """A mask holds class ids that the run does not have."""


def above_note(images: Sequence[str], n_classes: int, scored: int) -> str:
    """The note about images whose masks hold ids above the number of classes."""
    return (
        f"{len(images)} masks hold class ids above {n_classes}, the last of data.classes, such as that of {images[0]}, "
        f"and are not scored; if the masks number the classes otherwise, the scores of the other {scored} mislead"
    )


def read_ground_truth(uri: str, ids: MaskIds, n_classes: int, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read a ground truth mask.

    Args:
        uri: as `Item.mask_uri`.
        ids: how its numbers or colours are understood.
        n_classes: number of foreground classes.
        size: (H, W) that it must have.

    Returns:
        uint8 (H, W) of 0..n_classes and 255.

    Raises:
        RowError: when it cannot be used; `IdsAboveError` when it holds other class ids.
    """
    truth = ids.read(uri, size)
    labels = truth[truth != IGNORE]
    if labels.size and labels.max() > n_classes:
        raise IdsAboveError(
            "bad_mask",
            f"the mask {uri} holds label {labels.max()} and there are {n_classes} classes; if the masks number "
            "the classes otherwise, such as by COCO's own ids up to 90, those without such a label mislead: number "
            f"them 1 to {n_classes} in the order of data.classes",
        )
    return truth
