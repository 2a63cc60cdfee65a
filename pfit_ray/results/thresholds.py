"""The threshold that a run's maps suggest without ground truth."""

from typing import Any

from pfit_ray.ops.scores.suggest_threshold import ValueHistogram
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.published import read_rows
from pfit_ray.tasks.encode import array_from_bytes

MAX_SHARDS = 256
"""Shards that are read at most, spread evenly over the finished ones."""


def suggested_thresholds(run: RunDirectory) -> dict[str, dict[str, Any]]:
    """A threshold for the CAM and for the walked CAM of a run.

    Returns:
        By name (`cam`, `walk`): the `threshold` and the number of `images` it comes from; see
        `pfit_ray.ops.scores.suggest_threshold`. Maps that the run does not have are not named.
    """
    result = {}
    for pass_name, name in (("seeds", "cam"), ("labels", "walk")):
        finished = run.finished_numbers(pass_name)
        histogram = ValueHistogram()
        for shard in finished[:: -(-len(finished) // MAX_SHARDS) or 1]:
            for row in read_rows(run, pass_name, shard, [name], small=True):
                histogram.add(array_from_bytes(row[name]))
        level = histogram.threshold()
        if level is not None:
            result[name] = {"threshold": level, "images": histogram.maps}
    return result
