"""Region source: quickshift superpixels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfit_ray.data.region_sources.base import RegionSource
from pfit_ray.ops.superpixels.superpixels import quickshift_superpixels


class QuickshiftSource(RegionSource):
    """Quickshift superpixels; the options are those of `quickshift_superpixels`."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def regions(self, image: NDArray[np.uint8], image_id: str) -> NDArray[np.integer]:
        """Labels from 0."""
        return quickshift_superpixels(image, **self.options)
