"""Totals of scores over many images, and the numbers that follow from them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pfit_ray.ops.scores.bootstrap import Bootstrap, label_iou, mean_iou
from pfit_ray.ops.scores.evaluation import Scores, scores
from pfit_ray.tasks.score import MapScore

NO_PREDICTION = "no prediction"
"""What the column of pixels without prediction is called in a confusion matrix."""


class Totals:
    """Adds up what shards say of one kind of map.

    Args:
        draws: draws of the bootstrap.
        seed: of the bootstrap.
    """

    def __init__(self, draws: int, seed: int) -> None:
        self.matrix: np.ndarray | int = 0
        self.boundary: np.ndarray | int = 0
        self.images = 0
        self.bootstrap = Bootstrap(draws, seed)

    def add(self, score: MapScore) -> None:
        """Add some images."""
        self.matrix = self.matrix + score.matrix
        self.boundary = self.boundary + score.boundary
        self.images += len(score.images)
        if score.images and self.bootstrap.draws:
            self.bootstrap.add(score.images, np.stack(score.counts))

    def summary(self, names: Sequence[str], levels: Sequence[float]) -> dict[str, Any]:
        """The numbers, as JSON holds them: None for a ratio of nothing.

        Args:
            names: background and classes.
            levels: thresholds of the maps that are thresholded.

        Returns:
            `miou`, `miou_interval` (95 %, of the bootstrap), `miou_published`, `fp`, `fn`; by name `iou`, `precision`,
            `recall`; `confusion`, the pixels by true and, within, by predicted name, without zeros (see
            `NO_PREDICTION`); where boundaries were compared `boundary_miou` and, by name, `boundary_iou`; for maps that
            are thresholded all of that at the best `threshold`, and the whole `sweep`.
        """
        matrix = np.asarray(self.matrix)
        boundary = self.boundary if isinstance(self.boundary, np.ndarray) else None
        if matrix.ndim == 2:
            return self._numbers(matrix, scores(matrix), boundary, self.bootstrap.interval(), names)
        per_level = [scores(one) for one in matrix]
        mious = [one.miou for one in per_level]
        best = 0 if np.isnan(mious).all() else int(np.nanargmax(mious))
        sweep = [{"threshold": level, "miou": plain(miou)} for level, miou in zip(levels, mious, strict=True)]
        at_best = None if boundary is None else boundary[best]
        numbers = self._numbers(matrix[best], per_level[best], at_best, self.bootstrap.interval(best), names)
        return {"threshold": levels[best], **numbers, "sweep": sweep}

    def _numbers(
        self,
        matrix: np.ndarray,
        result: Scores,
        boundary: np.ndarray | None,
        interval: tuple[float, float] | None,
        names: Sequence[str],
    ) -> dict[str, Any]:
        def by_name(values: np.ndarray) -> dict[str, float | None]:
            return {name: plain(value) for name, value in zip(names, values, strict=True)}

        numbers: dict[str, Any] = {
            "miou": plain(result.miou),
            "miou_interval": None if interval is None else [plain(end) for end in interval],
            "miou_published": plain(result.miou_published),
            "fp": plain(result.fp),
            "fn": plain(result.fn),
        }
        if boundary is not None:
            numbers["boundary_miou"] = plain(float(mean_iou(boundary)))
        numbers |= {
            "iou": by_name(result.iou),
            "precision": by_name(result.precision),
            "recall": by_name(result.recall),
        }
        if boundary is not None:
            numbers["boundary_iou"] = by_name(label_iou(boundary))
        return numbers | {"confusion": _confusion(matrix, names)}


def summaries(
    totals: Mapping[str, Totals], names: Sequence[str], levels: Sequence[float], origins: Mapping[str, Any]
) -> dict[str, Any]:
    """The entry of each kind of map: `images`, the numbers of `Totals.summary`, and its `provenance`."""
    return {
        name: {"images": total.images, **total.summary(names, levels), "provenance": origins[name]}
        for name, total in totals.items()
    }


def _confusion(matrix: np.ndarray, names: Sequence[str]) -> dict[str, dict[str, int]]:
    columns = [*names, NO_PREDICTION]
    return {
        name: {columns[place]: int(row[place]) for place in np.flatnonzero(row)}
        for name, row in zip(names, matrix, strict=True)
        if row.any()
    }


def plain(value: float) -> float | None:
    """A number that JSON holds; None for NaN."""
    return None if np.isnan(value) else round(float(value), 6)
