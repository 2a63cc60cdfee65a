"""Region source: the masks that Segment Anything finds by itself."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pfit_ray.config.sources import SamConfig
from pfit_ray.data.hub import HubModel, quiet
from pfit_ray.data.region_sources.base import RegionSource
from pfit_ray.ops.device import pick_device


class SamRegions(RegionSource):
    """Automatic masks of SAM (Kirillov et al. 2023), SAM 2 (Ravi et al. 2024) or another model of transformers' mask
    generation: a grid of points, many at once, and what stays after their scores and overlaps.

    Each pixel belongs to the smallest mask that covers it; what no mask covers is one region. Its quality within the
    method has not been measured by this package.

    Args:
        options: the fields of `SamConfig`.
    """  # noqa: D205

    in_network = True
    bytes_per_pixel = 2500

    def __init__(self, **options: Any) -> None:
        self.config = SamConfig.model_validate(options)
        self.model = HubModel(self.config.model, self.config.revision, "regions.sources kind sam")

    def setup(self) -> None:
        """Load the network."""
        from transformers import AutoImageProcessor, AutoModelForMaskGeneration
        from transformers.pipelines import MaskGenerationPipeline

        self.device = pick_device()
        network = self.model.load_network(AutoModelForMaskGeneration.from_pretrained, self.device)
        processor = self.model.load(AutoImageProcessor.from_pretrained)
        self.generate = MaskGenerationPipeline(model=network, image_processor=processor, device=self.device)

    def regions(self, image: NDArray[np.uint8], image_id: str) -> NDArray[np.integer]:
        """Labels from 0, which is what no mask covers."""
        config = self.config
        with quiet():
            found = self.generate(
                Image.fromarray(image),
                points_per_crop=config.points_per_side,
                points_per_batch=config.points_per_batch,
                pred_iou_thresh=config.min_iou,
                stability_score_thresh=config.min_stability,
                crops_nms_thresh=config.max_overlap,
            )
        return paint([np.asarray(mask, dtype=bool) for mask in found["masks"]], (image.shape[0], image.shape[1]))


def paint(masks: list[NDArray[np.bool_]], size: tuple[int, int]) -> NDArray[np.int32]:
    """One label map of masks that may overlap: the smallest lies on top, of equal ones the first.

    Args:
        masks: bool (H, W) each.
        size: (H, W).

    Returns:
        int32 (H, W), 0 where there is no mask.
    """
    labels = np.zeros(size, dtype=np.int32)
    areas = [int(mask.sum()) for mask in masks]
    order = sorted(range(len(masks)), key=lambda index: (-areas[index], -index))
    for label, index in enumerate(order, start=1):
        labels[masks[index]] = label
    return labels
