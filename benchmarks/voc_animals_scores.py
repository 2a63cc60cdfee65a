"""Scores of the VOC-animals experiment: thresholds from the other half of the photographs, bootstrap intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pfit_ray.ops.scores.evaluation import scores

RESAMPLES = 1000


@dataclass(frozen=True)
class Measured:
    """Percents over all photographs, with the ends of a 95 % interval: value, low, high."""

    miou: tuple[float, float, float]
    fp: float
    fn: float


def halves(count: int) -> np.ndarray:
    """Which half each of the shuffled photographs is in: 0, 1, 0, 1, ..."""
    return np.arange(count) % 2


def other_half(sweeps: np.ndarray, choose: Callable[[np.ndarray], int]) -> list[int]:
    """An index of threshold for the photographs of each half, chosen on the other.

    Args:
        sweeps: confusion matrices (N, T, labels, labels + 1).
        choose: from the summed matrices (T, labels, labels + 1) of a half to an index.
    """
    half = halves(len(sweeps))
    return [choose(sweeps[half == 1 - number].sum(axis=0)) for number in (0, 1)]


def taken(sweeps: np.ndarray, chosen: Sequence[int]) -> np.ndarray:
    """The matrix (N, labels, labels + 1) of each photograph at the threshold of its half."""
    return sweeps[np.arange(len(sweeps)), np.array(chosen)[halves(len(sweeps))]]


def best_miou(matrices: np.ndarray) -> int:
    """Index of the threshold with the highest mIoU."""
    return int(np.nanargmax([scores(one).miou for one in matrices]))


def sureness(matrix: np.ndarray) -> tuple[float, float, float]:
    """Of a label map with unsure pixels: precision of sure foreground, of sure background, coverage; all 0..1."""
    labels = len(matrix)
    predicted = matrix[:, :labels].sum(axis=0).astype(np.float64)
    right = np.diagonal(matrix).astype(np.float64)
    foreground = right[1:].sum() / max(predicted[1:].sum(), 1)
    return float(foreground), float(right[0] / max(predicted[0], 1)), float(predicted.sum() / matrix.sum())


def as_sure(matrices: np.ndarray, foreground: float, background: float) -> tuple[int, int]:
    """The thresholds that label most while they are as sure as asked.

    Args:
        matrices: of the sweep (T, labels, labels + 1), thresholds ascending.
        foreground: lowest precision of the foreground above the one threshold.
        background: lowest precision of the background below the other.

    Returns:
        Indices of the threshold of sure foreground, the lowest that is precise enough from there on, and of sure
        background, the highest; where none is precise enough, the most precise one.
    """
    found = np.array([sureness(one)[:2] for one in matrices])
    enough = np.flatnonzero(found[:, 0] >= foreground)
    above = int(enough[0]) if enough.size else int(found[:, 0].argmax())
    enough = np.flatnonzero(found[:, 1] >= background)
    below = int(enough[-1]) if enough.size else int(found[:, 1].argmax())
    return above, min(above, below)


def measured(matrices: np.ndarray) -> Measured:
    """mIoU, FP and FN of photographs (N, labels, labels + 1), the thresholds held as they are."""
    total = scores(matrices.sum(axis=0))
    drawn = [100 * scores(matrices[draw].sum(axis=0)).miou for draw in _draws(len(matrices))]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Measured((100 * total.miou, float(low), float(high)), 100 * total.fp, 100 * total.fn)


def difference(matrices: np.ndarray, before: np.ndarray) -> tuple[float, float, float]:
    """How much more mIoU, and the 95 % interval of a paired bootstrap over the photographs."""

    def more(draw: np.ndarray) -> float:
        return 100 * (scores(matrices[draw].sum(axis=0)).miou - scores(before[draw].sum(axis=0)).miou)

    low, high = np.percentile([more(draw) for draw in _draws(len(matrices))], [2.5, 97.5])
    return more(np.arange(len(matrices))), float(low), float(high)


def _draws(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, count, (RESAMPLES, count))
