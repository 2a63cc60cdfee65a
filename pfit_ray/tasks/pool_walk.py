"""Stage: the walked map, pooled within the regions that pass 1 found."""

from collections.abc import Sequence

from pfit_ray.constants import Row
from pfit_ray.data.images import decode_grey
from pfit_ray.ops.cam.pool_walk import pool_hr_walk
from pfit_ray.tasks.base import Stage
from pfit_ray.tasks.components import components_of


class PoolWalkStage(Stage):
    """Pools `hr_walk` (float32 (K, H, W)) within `regions_NAME`, which come as the PNG bytes that pass 1 stored.

    `walk`, the strided map that is stored, stays as it walked.

    Args:
        sources: names of the region sources.
    """

    name = "pool_walk"

    def __init__(self, sources: Sequence[str]) -> None:
        self.sources = tuple(sources)

    def process(self, row: Row) -> None:
        """Pool one image's walked map."""
        for source in self.sources:
            row[f"regions_{source}"] = decode_grey(row[f"regions_{source}"])
        regions = [components_of(row, source) for source in self.sources]
        row["hr_walk"] = pool_hr_walk(row["hr_walk"], regions)
