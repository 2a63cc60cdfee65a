"""Region source: SLIC superpixels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfit_ray.data.region_sources.base import RegionSource
from pfit_ray.ops.superpixels.superpixels import slic_superpixels


class SlicSource(RegionSource):
    """SLIC superpixels; the options are those of `slic_superpixels`."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def regions(self, image: NDArray[np.uint8], image_id: str) -> NDArray[np.integer]:
        """Labels from 1."""
        return slic_superpixels(image, **self.options)
