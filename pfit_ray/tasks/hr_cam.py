"""Stage: the class activation map at image size."""

from pfit_ray.constants import Row
from pfit_ray.ops.cam.cam import merge_hr_cam
from pfit_ray.tasks.base import Stage


class HrCamStage(Stage):
    """Adds `hr_cam` (float32 (K, H, W) in [0, 1]) from `cam_maps`.

    Args:
        crop: the published way: resize to a multiple of 16 and crop, instead of resizing to the image.
    """

    name = "hr_cam"

    def __init__(self, crop: bool) -> None:
        self.crop = crop

    def process(self, row: Row) -> None:
        """Merge one image's scales."""
        row["hr_cam"] = merge_hr_cam(row["cam_maps"], row["height"], row["width"], crop=self.crop)
