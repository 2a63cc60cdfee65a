"""Stage: the regions of one source."""

import cv2
import numpy as np

from pfit_ray.config.sources import RegionSourceConfig
from pfit_ray.config.stages import RegionsConfig
from pfit_ray.constants import PUBLISHED_SOURCES, Row
from pfit_ray.data.region_sources import make_region_source
from pfit_ray.errors import RowError
from pfit_ray.ops.regions.region_maps import number_regions
from pfit_ray.ops.regions.uss_fused import first_weights, segment_unsupervised_fused
from pfit_ray.ops.regions.uss_vote import UssOptions
from pfit_ray.tasks.base import Stage, columns, on_gpu


class RegionsStage(Stage):
    """Adds `regions_NAME` for each label map of a source: uint8 or uint16 (H, W) labels 0..n-1.

    Args:
        source: the region source, or the name of one in `config.sources`.
        config: sources, their numbers, and those of the CNN that may merge their regions.
        reference: as the published programs, hand the image over with red and blue exchanged and never
            shrunk, and let the CNN run in torch on two threads, because its rounding, and so at times its
            labels, depend on these. Means nothing to sources that the published programs do not have.
    """

    def __init__(self, source: RegionSourceConfig | str, config: RegionsConfig, reference: bool) -> None:
        chosen = config.source(source) if isinstance(source, str) else source
        self.name = f"regions_{chosen.column}"  # type: ignore[misc]
        self.maps = self.adds = columns("regions", chosen.columns)
        self.merged = chosen.merged
        self.config = config
        self.reference = reference and chosen.kind in PUBLISHED_SOURCES
        self.source = make_region_source(config, chosen)
        self.reads = ("image", "image_id", *(("levels",) if self.source.levels else ()))
        fused = self.merged and config.uss.fused and not self.reference
        self.options = UssOptions(**config.uss.model_dump(exclude={"fused", "max_side"}))
        self.first = first_weights(self.options) if fused else None

    def setup(self) -> None:
        """Let the source load what it needs."""
        self.source.setup()

    @property
    def on_gpu(self) -> bool:
        """Whether the source has a network on a GPU."""
        return on_gpu(self.source)

    def process(self, row: Row) -> None:
        """Segment one image."""
        image = row["image"]
        seen = self._seen(image)
        shown = seen if self.source.reads_pixels else image
        levels = [row["levels"][level] for level in self.source.levels]
        found = self.source.label_maps(shown, row["image_id"], levels)
        if len(found) != len(self.maps):
            raise RowError("bad_regions", f"{self.name}: the source gave {len(found)} maps, not {len(self.maps)}")
        for column, labels in zip(self.maps, found, strict=True):
            row[column] = self._finished(column, np.asarray(labels), seen, shown.shape, image.shape)

    def _finished(
        self, column: str, labels: np.ndarray, seen: np.ndarray, shown: tuple[int, ...], size: tuple[int, ...]
    ) -> np.ndarray:
        if labels.shape != shown[:2] or labels.dtype.kind not in "iu" or (labels.size and labels.min() < 0):
            raise RowError(
                "bad_regions",
                f"{column} are {labels.dtype} {labels.shape}, not integers from 0 of the image's size {shown[:2]}",
            )
        if self.merged:
            labels = self._merge(seen, _resized(labels, seen.shape))
        try:
            labels = number_regions(labels)
        except ValueError as error:
            raise RowError("bad_regions", f"{column}: {error}") from error
        return _resized(labels, size)

    def _seen(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        longest = None if self.reference else self.config.uss.max_side
        if longest is not None and max(height, width) > longest:
            factor = longest / max(height, width)
            size = (max(1, round(width * factor)), max(1, round(height * factor)))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(image[:, :, ::-1]) if self.reference else image

    def _merge(self, image: np.ndarray, superpixels: np.ndarray) -> np.ndarray:
        if self.first is not None:
            return segment_unsupervised_fused(image, superpixels, self.options, first=self.first).labels
        from pfit_ray.ops.regions.uss import segment_unsupervised  # needs torch, and other workers do not

        return segment_unsupervised(image, superpixels, self.options, threads=2 if self.reference else 1).labels


def _resized(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Labels at the size (H, W, ...), each pixel that of the nearest."""
    if labels.shape == shape[:2]:
        return labels
    return cv2.resize(labels, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST)
