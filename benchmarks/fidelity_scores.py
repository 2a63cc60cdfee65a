"""Scores of arms over the same photographs, their differences, and how sure those are."""

from collections.abc import Mapping, Sequence

import numpy as np

from pfit_ray.ops.scores.evaluation import scores

Matrices = dict[tuple[str, str], np.ndarray]
"""By what is scored and by arm: confusion matrices (labels, labels + 1), or a stack of one per threshold; of one
photograph, or of N stacked along a first axis."""

RESAMPLES = 400
SURE = "affinity label"
"""Scored by the pixels that it is sure of; everything else by mIoU."""


def print_table(found: Matrices, starts: Mapping[str, str], thresholds: Sequence[float]) -> None:
    """Print each arm's score and its difference to the arm it starts from, with a 95 % interval.

    The interval is that of a paired bootstrap: photographs are drawn with replacement, both arms are scored on
    the same draw, each at its own best threshold of that draw.

    Args:
        found: matrices of N photographs.
        starts: which arm each arm is compared with.
        thresholds: background values of the stacked matrices.
    """
    for what in dict.fromkeys(what for what, _ in found):
        arms = {arm: matrices for (other, arm), matrices in found.items() if other == what}
        count = len(next(iter(arms.values())))
        print(f"\n{what}, {count} photographs")
        draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES)
        for measure in ("precision", "coverage") if what == SURE else ("mIoU",):
            for arm, matrices in arms.items():
                value, threshold = _score(matrices.sum(axis=0), measure, thresholds)
                line = f"  {arm:<45} {measure:<9} {value:6.2f}{threshold}"
                if arm != starts[arm]:
                    change = value - _score(arms[starts[arm]].sum(axis=0), measure, thresholds)[0]
                    low, high = _interval(matrices, arms[starts[arm]], draws, measure, thresholds)
                    line += f"  {change:+6.2f} [{low:+.2f}, {high:+.2f}] against {starts[arm]}"
                print(line, flush=True)


def _interval(
    matrices: np.ndarray, before: np.ndarray, draws: np.ndarray, measure: str, thresholds: Sequence[float]
) -> tuple[float, float]:
    changes = [
        _score(np.tensordot(draw, matrices, 1), measure, thresholds)[0]
        - _score(np.tensordot(draw, before, 1), measure, thresholds)[0]
        for draw in draws
    ]
    low, high = np.percentile(changes, [2.5, 97.5])
    return float(low), float(high)


def _score(matrix: np.ndarray, measure: str, thresholds: Sequence[float]) -> tuple[float, str]:
    """A score in percent, and at which threshold it was best."""
    if matrix.ndim == 3:
        values = [100 * scores(one).miou for one in matrix]
        best = int(np.argmax(values))
        return values[best], f" at {thresholds[best]:.2f}"
    if measure == "precision":
        return 100 * float(np.nanmean(scores(matrix).precision)), ""
    if measure == "coverage":
        return 100 * float(matrix[:, :-1].sum() / matrix.sum()), ""
    return 100 * scores(matrix).miou, ""


def print_scorers(found: Matrices, n_voc: int) -> None:
    """Print what the published scorer makes of label maps: absent classes as 0, and every 8th photograph alone.

    Args:
        found: matrices of N photographs.
        n_voc: number of foreground classes of the published scorer.
    """
    print()
    for (what, arm), matrices in found.items():
        if what in ("pseudo label", "prediction") and arm in ("lossless", "padded"):
            total = matrices.sum(axis=0)
            padded = np.zeros((n_voc + 1, n_voc + 2), dtype=np.int64)
            n = len(total)
            padded[:n, :n], padded[:n, -1] = total[:, :n], total[:, -1]
            eighth = scores(matrices[::8].sum(axis=0))
            print(
                f"scorer of the {what}: mIoU over the classes that occur {100 * scores(total).miou:.2f}; "
                f"over {n_voc + 1} labels, absent ones as 0, {100 * scores(padded).miou_published:.2f}; "
                f"of every 8th photograph alone {100 * eighth.miou:.2f}, with classes absent there as 0 "
                f"{100 * eighth.miou_published:.2f}"
            )
