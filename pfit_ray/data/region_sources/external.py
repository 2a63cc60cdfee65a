"""Region source: label maps made elsewhere, such as masks of SAM, DINO or CAUSE."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfit_ray.config.sources import ExternalRegionsConfig
from pfit_ray.data.images import decode_regions
from pfit_ray.data.region_sources.base import RegionSource
from pfit_ray.data.sources.by_id import open_by_id
from pfit_ray.errors import RowError


class ExternalRegions(RegionSource):
    """PNGs by image id, of the image's size: palette or grey, of 8 or 16 bits; each value is a region.

    Args:
        options: the fields of `ExternalRegionsConfig`.
    """

    reads_pixels = False
    bytes_per_pixel = 16

    def __init__(self, **options: Any) -> None:
        config = ExternalRegionsConfig.model_validate(options)
        self.column = config.column
        self.files = open_by_id(config.url, config.form, ".png", config.id_column, (config.column,))

    def setup(self) -> None:
        """Find the files."""
        self.files.setup()

    def regions(self, image: NDArray[np.uint8], image_id: str) -> NDArray[np.integer]:
        """Decode the image's label map."""
        found = self.files.fetch(image_id)
        data = found if isinstance(found, bytes) else found[self.column]
        if not isinstance(data, bytes):
            raise RowError("bad_regions", f"column {self.column!r} holds no bytes of a PNG for image {image_id!r}")
        return decode_regions(data, (image.shape[0], image.shape[1]))
