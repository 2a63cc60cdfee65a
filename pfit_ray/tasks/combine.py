"""Stage: the CAM doubled where both PerimeterFit masks agree."""

from pfit_ray.ops.combine import combine_cam, combine_hr_cam
from pfit_ray.schema import Row
from pfit_ray.tasks.base import Stage
from pfit_ray.tasks.regions import REGION_SOURCES


class CombineStage(Stage):
    """Adds `combined_cam` (K, h, w) and `combined_hr_cam` (K, H, W), both in [0, 2]."""

    name = "combine"

    def process(self, row: Row) -> None:
        """Combine one image's CAM with its masks."""
        masks = [row[f"fit_mask_{source}"] for source in REGION_SOURCES]
        row["combined_cam"] = combine_cam(row["cam"], masks)
        row["combined_hr_cam"] = combine_hr_cam(row["hr_cam"], masks)
