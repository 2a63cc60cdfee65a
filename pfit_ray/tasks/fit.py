"""Stage: PerimeterFit masks."""

import numpy as np

from pfit_ray.config.stages import FitConfig
from pfit_ray.ops.perimeter_fit import connected_regions, fit_masks
from pfit_ray.ops.reference_fit import reference_fit_masks
from pfit_ray.ops.seed_scores import mask_agreement
from pfit_ray.schema import Row
from pfit_ray.tasks.base import Stage
from pfit_ray.tasks.regions import REGION_SOURCES, RegionSource


class FitStage(Stage):
    """Adds `fit_mask_slic`, `fit_mask_quickshift` (bool (K, H, W)) and the score `mask_agreement`."""

    name = "fit"

    def __init__(self, config: FitConfig, reference: bool) -> None:
        self.thresholds: dict[RegionSource, float] = {
            "slic": config.slic_cam_threshold,
            "quickshift": config.quickshift_cam_threshold,
        }
        self.config = config
        self.reference = reference

    def process(self, row: Row) -> None:
        """Fit one image's CAM to its regions."""
        for source in REGION_SOURCES:
            row[f"fit_mask_{source}"] = self._masks(row, source)
        row["mask_agreement"] = mask_agreement(row["fit_mask_slic"], row["fit_mask_quickshift"], row["hr_cam"])

    def _masks(self, row: Row, source: RegionSource) -> np.ndarray:
        threshold = self.thresholds[source]
        perimeter = row[f"perimeter_{source}"]
        if self.reference:
            numbers = self.config.published
            slic = source == "slic"
            return reference_fit_masks(
                row[f"picture_{source}"],
                perimeter,
                row["hr_cam"],
                cam_threshold=threshold,
                edge_threshold=numbers.slic_edge_threshold if slic else numbers.quickshift_edge_threshold,
                clip_to_cam=slic,
                tolerance=numbers.tolerance,
            )
        components, count = connected_regions(row[f"regions_{source}"])
        return fit_masks(components, count, perimeter, row["hr_cam"], threshold=threshold)
