"""Stage: the combined CAM, which the CAM and the regions make together."""

from collections.abc import Sequence

from pfit_ray.config.stages import CombineMode
from pfit_ray.constants import PUBLISHED_SOURCES, Row
from pfit_ray.ops.cam.combine import combine_cam, combine_hr_cam
from pfit_ray.ops.cam.pool import pool_cam, pool_hr_cam
from pfit_ray.ops.cam.pool_fit import pool_fit_cam, pool_fit_hr_cam
from pfit_ray.tasks.base import Stage
from pfit_ray.tasks.components import components_of


class CombineStage(Stage):
    """Adds `combined_cam` (K, h, w) and `combined_hr_cam` (K, H, W).

    Args:
        mode: none: the CAM as it is, and no score `mask_agreement`; fit: doubled where all PerimeterFit masks agree, in
            [0, 2]; pool: averaged within the connected regions of each source and over the sources, in [0, 1];
            pool_fit: both, in [0, 2].
        sources: names of the region sources.
        rounds: of pooling; see `pfit_ray.ops.cam.pool.pool_hr_cam`.
    """

    name = "combine"

    def __init__(self, mode: CombineMode = "fit", sources: Sequence[str] = PUBLISHED_SOURCES, rounds: int = 1) -> None:
        self.mode = mode
        self.sources = tuple(sources)
        self.rounds = rounds

    def process(self, row: Row) -> None:
        """Combine one image's CAM with its regions."""
        if self.mode == "none":
            row["combined_cam"], row["combined_hr_cam"] = row["cam"], row["hr_cam"]
            row["mask_agreement"] = None
            return
        masks = [row[f"fit_mask_{source}"] for source in self.sources]
        if self.mode == "fit":
            row["combined_cam"] = combine_cam(row["cam"], masks)
            row["combined_hr_cam"] = combine_hr_cam(row["hr_cam"], masks)
            return
        regions = [components_of(row, source) for source in self.sources]
        pooled = pool_hr_cam(row["hr_cam"], regions, self.rounds)
        size = row["cam"].shape[1:]
        if self.mode == "pool":
            row["combined_cam"], row["combined_hr_cam"] = pool_cam(pooled, *size), pooled
        else:
            row["combined_cam"] = pool_fit_cam(pooled, masks, *size)
            row["combined_hr_cam"] = pool_fit_hr_cam(pooled, masks)
