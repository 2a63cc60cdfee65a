"""Score a run against ground truth: every map and label map that its passes wrote."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from pfit_ray.config import PASSES, RunConfig
from pfit_ray.data.sources.mask_ids import mask_ids
from pfit_ray.errors import UserError
from pfit_ray.results.totals import Totals, summaries
from pfit_ray.rundir.directory import IMAGE_SET, RunDirectory
from pfit_ray.rundir.manifest import ground_truth_shards
from pfit_ray.rundir.provenance import provenance
from pfit_ray.runner.progress import Progress
from pfit_ray.tasks.score import ShardScore, ShardScorer, above_note, classless_note

IN_FLIGHT = 64
"""Shards that are scored at the same time."""


def thresholds(config: RunConfig) -> list[float]:
    """Background values of the sweep."""
    sweep = config.evaluate
    count = int(np.ceil((sweep.threshold_stop - sweep.threshold_start) / sweep.threshold_step - 1e-9))
    return [round(sweep.threshold_start + index * sweep.threshold_step, 6) for index in range(max(1, count))]


def evaluate_run(config: RunConfig, run: RunDirectory, progress: Progress | None = None) -> dict[str, Any]:
    """Score all finished shards of all passes that have images with ground truth.

    Args:
        config: the run's config.
        run: the run directory.
        progress: shows how many shards have been scored.

    Returns:
        Per scored map (`cam`, `combined_cam`, `walk`, `pseudo_label`, `prediction`): `images`, the numbers of
        `pfit_ray.results.totals.Totals.summary`, and what it was computed with, `provenance`. Empty if there is no
        ground truth. `problems` lists masks that could not be used, `notes` says what is odd about others. If no
        mask has a class, nothing is scored.
    """
    sweep = config.evaluate
    names = ["background", *config.data.class_list.names]
    totals: dict[str, Totals] = {}
    problems: list[str] = []
    classless: list[str] = []
    above: set[str] = set()
    images = 0
    with_masks = {name: ground_truth_shards(run, name) for name in dict.fromkeys(IMAGE_SET.values())}
    shards = {name: _finished(run, name, with_masks[IMAGE_SET[name]]) for name in PASSES}
    ids = mask_ids(config.data)
    count = sum(map(len, shards.values()))
    with progress.images("evaluation", count, 0, "shards") if progress and count else nullcontext() as step:
        for pass_name in (name for name in PASSES if shards[name]):
            scorer = ShardScorer(run, pass_name, len(names) - 1, ids, thresholds(config), sweep.boundary)
            for score in _score_all(scorer, shards[pass_name]):
                problems += score.problems
                classless += score.classless
                above.update(score.above)
                images += score.images
                for name, found in score.maps.items():
                    totals.setdefault(name, Totals(sweep.bootstrap, config.seed)).add(found)
                if step is not None:
                    step.add(1, 0)
    result = summaries(totals, names, thresholds(config), provenance(config, run))
    if problems:
        result["problems"] = sorted(set(problems))
    if classless:
        note = classless_note(sorted(set(classless)))
        if len(classless) == images:  # mIoU would be 100 %
            return {"notes": [f"nothing is scored: {note}"], "problems": sorted(set(problems))}
        result["notes"] = [note]
    if above:
        scored = max((total.images for total in totals.values()), default=0)
        result.setdefault("notes", []).append(above_note(sorted(above), len(names) - 1, scored))
    return result


def _finished(run: RunDirectory, name: str, shards: NDArray[np.int64]) -> list[int]:
    """Those of some shards that a pass has finished."""
    found: list[int] = np.intersect1d(shards, run.markers(name).numbers()).tolist() if len(shards) else []
    return found


def _score_all(scorer: ShardScorer, shards: Iterable[int]) -> Iterator[ShardScore]:
    """Score shards in Ray tasks, a bounded number in flight, in their order."""
    task = ray.remote(num_cpus=1)(ShardScorer.__call__)
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
