"""Score a run against ground truth: every map and label map that its passes wrote."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import ray

from pfit_ray.config import PASSES, RunConfig
from pfit_ray.errors import UserError
from pfit_ray.layout import RunDirectory
from pfit_ray.ops.evaluation import Scores, scores
from pfit_ray.provenance import provenance
from pfit_ray.sources import mask_lookup
from pfit_ray.tasks.score import ShardScore, ShardScorer

IN_FLIGHT = 64
"""Shards that are scored at the same time."""


def thresholds(config: RunConfig) -> list[float]:
    """Background values of the sweep."""
    sweep = config.evaluate
    count = int(np.ceil((sweep.threshold_stop - sweep.threshold_start) / sweep.threshold_step - 1e-9))
    return [round(sweep.threshold_start + index * sweep.threshold_step, 6) for index in range(max(1, count))]


def evaluate_run(config: RunConfig, run: RunDirectory) -> dict[str, Any]:
    """Score all finished shards of all passes.

    Args:
        config: the run's config.
        run: the run directory.

    Returns:
        Per scored map (`cam`, `combined_cam`, `walk`, `pseudo_label`, `prediction`): `images`, `miou`,
        `miou_published`, `iou` by class name, `fp`, `fn`, `precision`, `recall`; for maps also the best
        `threshold` and the whole `sweep`; and what it was computed with, `provenance`. Empty where there is no
        ground truth. `problems` lists masks that could not be used.
    """
    result: dict[str, Any] = {}
    origins = provenance(config, run)
    problems: list[str] = []
    names = ["background", *config.data.class_list.names]
    for pass_name in PASSES:
        shards = run.finished_numbers(pass_name)
        scorer = ShardScorer(run, pass_name, len(names) - 1, mask_lookup(config.data), thresholds(config))
        totals: dict[str, np.ndarray] = {}
        images = 0
        for matrices, count, bad in _score_all(scorer, shards):
            images += count
            problems += bad
            for name, matrix in matrices.items():
                totals[name] = totals.get(name, 0) + matrix
        for name, matrix in totals.items():
            numbers = _summary(matrix, names, thresholds(config))
            result[name] = {"images": images, **numbers, "provenance": origins[name]}
    if problems:
        result["problems"] = sorted(set(problems))
    return result


def _score_all(scorer: ShardScorer, shards: Iterable[int]) -> Iterator[ShardScore]:
    """Score shards in Ray tasks, a bounded number in flight, in their order."""
    task = ray.remote(num_cpus=1)(_score_shard)
    shared = ray.put(scorer)
    waiting: deque[Any] = deque()
    try:
        for shard in shards:
            waiting.append(task.remote(shared, shard))
            if len(waiting) >= IN_FLIGHT:
                yield ray.get(waiting.popleft())
        while waiting:
            yield ray.get(waiting.popleft())
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):  # its text without the worker's traceback
            raise error.cause from None
        raise


def _score_shard(scorer: ShardScorer, shard: int) -> ShardScore:
    return scorer(shard)


def _summary(matrix: np.ndarray, names: list[str], levels: list[float]) -> dict[str, Any]:
    if matrix.ndim == 2:
        return _numbers(scores(matrix), names)
    per_level = [scores(one) for one in matrix]
    best = int(np.nanargmax([one.miou for one in per_level]))
    sweep = [{"threshold": level, "miou": _plain(one.miou)} for level, one in zip(levels, per_level, strict=True)]
    return {"threshold": levels[best], **_numbers(per_level[best], names), "sweep": sweep}


def _numbers(result: Scores, names: list[str]) -> dict[str, Any]:
    def by_name(values: np.ndarray) -> dict[str, float | None]:
        return {name: _plain(value) for name, value in zip(names, values, strict=True)}

    return {
        "miou": _plain(result.miou),
        "miou_published": _plain(result.miou_published),
        "fp": _plain(result.fp),
        "fn": _plain(result.fn),
        "iou": by_name(result.iou),
        "precision": by_name(result.precision),
        "recall": by_name(result.recall),
    }


def _plain(value: float) -> float | None:
    """A number that JSON holds; None for NaN."""
    return None if np.isnan(value) else round(float(value), 6)
