"""Stage: unsupervised segmentation of an image by a small CNN over superpixels."""

from typing import Literal

import cv2
import numpy as np

from pfit_ray.config.stages import RegionsConfig
from pfit_ray.ops.superpixels import quickshift_superpixels, slic_superpixels
from pfit_ray.ops.uss import segment_unsupervised
from pfit_ray.ops.uss_fused import segment_unsupervised_fused
from pfit_ray.schema import Row
from pfit_ray.tasks.base import Stage

RegionSource = Literal["slic", "quickshift"]
REGION_SOURCES: tuple[RegionSource, ...] = ("slic", "quickshift")


class RegionsStage(Stage):
    """Adds `regions_slic` or `regions_quickshift`: uint8 (H, W) labels 0..n-1.

    Args:
        source: which superpixels the CNN works on.
        config: superpixels and CNN.
        reference: as the published programs, hand the image over with red and blue exchanged and never
            shrunk, and let the CNN run in torch on two threads, because its rounding, and so at times its
            labels, depend on these.
    """

    def __init__(self, source: RegionSource, config: RegionsConfig, reference: bool) -> None:
        self.name = f"regions_{source}"  # type: ignore[misc]
        self.source = source
        self.config = config
        self.reference = reference

    def process(self, row: Row) -> None:
        """Segment one image."""
        image = row["image"]
        height, width = image.shape[:2]
        longest = None if self.reference else self.config.uss.max_side
        if longest is not None and max(height, width) > longest:
            factor = longest / max(height, width)
            size = (max(1, round(width * factor)), max(1, round(height * factor)))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        if self.reference:
            image = np.ascontiguousarray(image[:, :, ::-1])
        uss = self.config.uss
        segment = segment_unsupervised_fused if uss.fused and not self.reference else segment_unsupervised
        regions = segment(
            image,
            self._superpixels(image),
            seed=uss.seed,
            max_iterations=uss.max_iterations,
            min_labels=uss.min_labels,
            learning_rate=uss.learning_rate,
            momentum=uss.momentum,
            threads=2 if self.reference else 1,
        )
        labels = regions.labels
        if labels.shape != (height, width):
            labels = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
        row[self.name] = labels

    def _superpixels(self, image: np.ndarray) -> np.ndarray:
        if self.source == "slic":
            return slic_superpixels(image, **self.config.slic.model_dump())
        return quickshift_superpixels(image, **self.config.quickshift.model_dump())
