"""Stage: the regions of one source."""

import cv2
import numpy as np

from pfit_ray.config.stages import RegionsConfig
from pfit_ray.constants import PUBLISHED_SOURCES, Row
from pfit_ray.data.region_sources import make_region_source
from pfit_ray.errors import RowError
from pfit_ray.ops.regions.region_maps import number_regions
from pfit_ray.ops.regions.uss_fused import first_weights, segment_unsupervised_fused
from pfit_ray.tasks.base import Stage


class RegionsStage(Stage):
    """Adds `regions_NAME`: uint8 or uint16 (H, W) labels 0..n-1.

    Args:
        source: name of the region source in `config.sources`.
        config: sources, their numbers, and those of the CNN that may merge their regions.
        reference: as the published programs, hand the image over with red and blue exchanged and never
            shrunk, and let the CNN run in torch on two threads, because its rounding, and so at times its
            labels, depend on these. Means nothing to sources that the published programs do not have.
    """

    def __init__(self, source: str, config: RegionsConfig, reference: bool) -> None:
        chosen = config.source(source)
        self.name = f"regions_{source}"  # type: ignore[misc]
        self.merged = chosen.merged
        self.config = config
        self.reference = reference and chosen.kind in PUBLISHED_SOURCES
        self.source = make_region_source(config, chosen)
        fused = self.merged and config.uss.fused and not self.reference
        self.first = first_weights(config.uss.seed) if fused else None

    def setup(self) -> None:
        """Let the source load what it needs."""
        self.source.setup()

    def process(self, row: Row) -> None:
        """Segment one image."""
        image = row["image"]
        seen = self._seen(image)
        labels = self._labels(seen if self.source.reads_pixels else image, row["image_id"])
        if self.merged:
            labels = self._merge(seen, _resized(labels, seen.shape))
        try:
            labels = number_regions(labels)
        except ValueError as error:
            raise RowError("bad_regions", f"{self.name}: {error}") from error
        row[self.name] = _resized(labels, image.shape)

    def _seen(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        longest = None if self.reference else self.config.uss.max_side
        if longest is not None and max(height, width) > longest:
            factor = longest / max(height, width)
            size = (max(1, round(width * factor)), max(1, round(height * factor)))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(image[:, :, ::-1]) if self.reference else image

    def _labels(self, image: np.ndarray, image_id: str) -> np.ndarray:
        labels = np.asarray(self.source.regions(image, image_id))
        if labels.shape != image.shape[:2] or labels.dtype.kind not in "iu" or (labels.size and labels.min() < 0):
            raise RowError(
                "bad_regions",
                f"{self.name} are {labels.dtype} {labels.shape}, not integers from 0 of the image's size "
                f"{image.shape[:2]}",
            )
        return labels

    def _merge(self, image: np.ndarray, superpixels: np.ndarray) -> np.ndarray:
        uss = self.config.uss
        settings = uss.model_dump(include={"seed", "max_iterations", "min_labels", "learning_rate", "momentum"})
        if self.first is not None:
            return segment_unsupervised_fused(image, superpixels, **settings, first=self.first).labels
        from pfit_ray.ops.regions.uss import segment_unsupervised  # needs torch, and other workers do not

        return segment_unsupervised(image, superpixels, **settings, threads=2 if self.reference else 1).labels


def _resized(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Labels at the size (H, W, ...), each pixel that of the nearest."""
    if labels.shape == shape[:2]:
        return labels
    return cv2.resize(labels, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST)
