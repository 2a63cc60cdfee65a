"""Stage: the borders of the regions."""

from collections.abc import Sequence

from pfit_ray.config.stages import FitConfig
from pfit_ray.constants import PUBLISHED_SOURCES, Row
from pfit_ray.ops.regions.perimeter import perimeter_map
from pfit_ray.ops.regions.reference_perimeter import canny_perimeter, jpeg_round_trip, region_picture
from pfit_ray.tasks.base import Stage


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
