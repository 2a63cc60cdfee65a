"""Confidence of a mean IoU, by drawing again and again from the scored images."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

INTERVAL = (2.5, 97.5)
"""Percentiles of a 95 % interval."""


def pixel_counts(matrix: NDArray[np.integer]) -> NDArray[np.int64]:
    """What IoU needs of a confusion matrix.

    Args:
        matrix: integers (..., n_classes + 1, n_classes + 2) as `pfit_ray.ops.scores.evaluation.confusion` makes them.

    Returns:
        int64 (..., n_classes + 1, 3): pixels of each label that are hit, true, and predicted.
    """
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    predicted = matrix[..., : matrix.shape[-2]].sum(axis=-2)
    return np.stack([hits, matrix.sum(axis=-1), predicted], axis=-1).astype(np.int64)


def mean_iou(counts: NDArray[np.number]) -> NDArray[np.float64]:
    """Mean IoU over the labels that occur.

    Args:
        counts: (..., n_classes + 1, 3), see `pixel_counts`.

    Returns:
        float64 (...), NaN where no label occurs.
    """
    iou = label_iou(counts)
    occurs = ~np.isnan(iou)
    total = np.where(occurs, iou, 0.0).sum(axis=-1)
    number = occurs.sum(axis=-1)
    return np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)


def label_iou(counts: NDArray[np.number]) -> NDArray[np.float64]:
    """IoU of each label, float64 (..., n_classes + 1); NaN for a label that is neither true nor predicted."""
    hits = counts[..., 0].astype(np.float64)
    union = counts[..., 1] + counts[..., 2] - hits
    return np.divide(hits, union, out=np.full(hits.shape, np.nan), where=union > 0)


class Bootstrap:
    """Mean IoU of many draws of the images, with constant memory.

    Each draw takes an image Poisson(1) times, independently of all others, instead of exactly as many images as there
    are. For many images that is the same (Hanley and MacGibbon 2006; Chamandy et al. 2012), but they may come one by
    one, in any order and from any worker. How often an image is taken depends only on the seed and its id.

    Args:
        draws: number of draws.
        seed: of all of them, 0 or more.
    """

    def __init__(self, draws: int, seed: int) -> None:
        self.draws = draws
        self.seed = seed
        self.total: NDArray[np.float64] | None = None

    def add(self, image_ids: Sequence[str], counts: NDArray[np.integer]) -> None:
        """Take up images.

        Args:
            image_ids: N ids.
            counts: integers (N, ..., n_classes + 1, 3), see `pixel_counts`.
        """
        weights = np.stack([self.weights(image_id) for image_id in image_ids], axis=1).astype(np.float64)
        drawn = np.tensordot(weights, counts.astype(np.float64), axes=1)
        self.total = drawn if self.total is None else self.total + drawn

    def weights(self, image_id: str) -> NDArray[np.int64]:
        """How often each draw takes an image, int64 (draws,)."""
        digest = hashlib.sha256(f"{self.seed}\t{image_id}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:16], "big")).poisson(1.0, self.draws)

    def interval(self, index: int | None = None) -> tuple[float, float] | None:
        """The 95 % interval of the mean IoU.

        Args:
            index: which of several thresholds, where the counts have an axis of these.

        Returns:
            Its ends; None without images or draws.
        """
        if self.total is None or not self.draws:
            return None
        values = mean_iou(self.total if index is None else self.total[:, index])
        found = values[~np.isnan(values)]
        if not found.size:
            return None
        low, high = np.percentile(found, INTERVAL)
        return float(low), float(high)
