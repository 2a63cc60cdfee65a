"""The threshold that a run's maps suggest, where nobody has drawn ground truth."""

from typing import Any

import pyarrow.parquet as pq

from pfit_ray.ops.scores.suggest_threshold import ValueHistogram
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.storage.ranges import open_seekable
from pfit_ray.tasks.encode import array_from_bytes

MAX_SHARDS = 256
"""So many shards, spread evenly over the finished ones, are read."""
_ROWS = 64


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
            with open_seekable(run.rows(pass_name, shard)) as file:
                for batch in pq.ParquetFile(file).iter_batches(_ROWS, columns=[name]):
                    for data in batch.column(0).to_pylist():
                        histogram.add(array_from_bytes(data))
        level = histogram.threshold()
        if level is not None:
            result[name] = {"threshold": level, "images": histogram.maps}
    return result
