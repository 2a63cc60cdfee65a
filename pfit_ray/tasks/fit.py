"""Stages: the borders of the regions, and the PerimeterFit masks."""

from collections.abc import Sequence

import numpy as np

from pfit_ray.config.sources import RegionSourceConfig
from pfit_ray.config.stages import FitConfig, RegionsConfig
from pfit_ray.constants import PUBLISHED_SOURCES, Row
from pfit_ray.ops.cam.perimeter_fit import connected_regions, fit_masks
from pfit_ray.ops.cam.pool import Components
from pfit_ray.ops.cam.reference_fit import reference_fit_masks
from pfit_ray.ops.regions.reference_perimeter import canny_perimeter, jpeg_round_trip, region_picture
from pfit_ray.ops.regions.region_maps import perimeter_map
from pfit_ray.ops.scores.seed_scores import mask_agreement
from pfit_ray.tasks.base import Stage, columns


class PerimeterStage(Stage):
    """Adds `perimeter_NAME` of each region source.

    They are bool (H, W); with `reference` they are the published grey maps (uint8 (H, W)) after their JPEG
    round trip, and the region pictures `picture_NAME` (uint8 RGB (H, W, 3)) that they were found in come along.

    Args:
        config: the numbers of the published way.
        reference: the published way.
        sources: names of the region sources.
    """

    name = "perimeter"

    def __init__(self, config: FitConfig, reference: bool, sources: Sequence[str] = PUBLISHED_SOURCES) -> None:
        self.sources = tuple(sources)
        self.config = config
        self.reference = reference
        self.reads = columns("regions", sources)
        self.adds = columns("perimeter", sources) + columns("picture", sources if reference else ())

    def process(self, row: Row) -> None:
        """Find the borders in one image's region maps."""
        numbers = self.config.published
        for source in self.sources:
            labels = row[f"regions_{source}"]
            if self.reference:
                picture = jpeg_round_trip(region_picture(labels, seed=numbers.colour_seed))
                row[f"picture_{source}"] = picture[:, :, ::-1]
                row[f"perimeter_{source}"] = canny_perimeter(
                    picture, low=numbers.canny_low, high=numbers.canny_high, blur=numbers.blur
                )
            else:
                row[f"perimeter_{source}"] = perimeter_map(labels)


def components_of(row: Row, source: str) -> Components:
    """The connected regions of one region source, int32 (H, W), and their count; the row keeps them."""
    column = f"components_{source}"
    if column not in row:
        row[column] = connected_regions(row[f"regions_{source}"])
    found: Components = row[column]
    return found


class FitStage(Stage):
    """Adds `fit_mask_NAME` (bool (K, H, W)) of each region source and the score `mask_agreement` of all of them.

    Args:
        config: thresholds, and the numbers of the published way.
        reference: the published way; the sources are slic and quickshift then.
        sources: the region sources.
    """

    name = "fit"

    def __init__(
        self, config: FitConfig, reference: bool, sources: Sequence[RegionSourceConfig] = RegionsConfig().sources
    ) -> None:
        by_kind = {"slic": config.slic_cam_threshold, "quickshift": config.quickshift_cam_threshold}
        self.kinds = {name: source.kind for source in sources for name in source.columns}
        self.thresholds = {name: by_kind.get(kind, config.cam_threshold) for name, kind in self.kinds.items()}
        self.config = config
        self.reference = reference
        names = tuple(self.kinds)
        self.reads = ("hr_cam", *columns("perimeter", names), *columns("picture" if reference else "regions", names))
        self.adds = (
            *columns("fit_mask", names), "mask_agreement", *columns("components", () if reference else names),
        )  # fmt: skip

    def process(self, row: Row) -> None:
        """Fit one image's CAM to its regions."""
        for source in self.kinds:
            row[f"fit_mask_{source}"] = self._masks(row, source)
        row["mask_agreement"] = mask_agreement([row[f"fit_mask_{source}"] for source in self.kinds], row["hr_cam"])

    def _masks(self, row: Row, source: str) -> np.ndarray:
        threshold = self.thresholds[source]
        perimeter = row[f"perimeter_{source}"]
        if self.reference:
            numbers = self.config.published
            slic = self.kinds[source] == "slic"
            return reference_fit_masks(
                row[f"picture_{source}"],
                perimeter,
                row["hr_cam"],
                cam_threshold=threshold,
                edge_threshold=numbers.slic_edge_threshold if slic else numbers.quickshift_edge_threshold,
                clip_to_cam=slic,
                tolerance=numbers.tolerance,
            )
        components, count = components_of(row, source)
        return fit_masks(components, count, perimeter, row["hr_cam"], threshold=threshold)
