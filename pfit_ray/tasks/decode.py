"""Stage: bytes become pixels."""

from pfit_ray.constants import Row
from pfit_ray.data.images import decode_image
from pfit_ray.tasks.base import Stage


class DecodeStage(Stage):
    """Adds `image` (uint8 RGB (H, W, 3)), `height` and `width` from `encoded`."""

    name = "decode"

    def __init__(self, max_pixels: int) -> None:
        self.max_pixels = max_pixels

    def process(self, row: Row) -> None:
        """Decode one image."""
        row["image"] = decode_image(row["encoded"], self.max_pixels)
        row["height"], row["width"] = row["image"].shape[:2]
