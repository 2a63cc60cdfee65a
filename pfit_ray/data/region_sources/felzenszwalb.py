"""Region source: Felzenszwalb's graph-based segmentation."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import felzenszwalb

from pfit_ray.data.region_sources.base import RegionSource


class FelzenszwalbSource(RegionSource):
    """Regions whose inner differences are small beside those across their borders (Felzenszwalb and Huttenlocher 2004).

    Args:
        options: `scale`, `sigma` and `min_size` of scikit-image's `felzenszwalb`.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options

    def regions(self, image: NDArray[np.uint8], image_id: str) -> NDArray[np.integer]:
        """Labels from 0."""
        if min(image.shape[:2]) < 2:  # scikit-image wants edges in both directions
            image = np.repeat(np.repeat(image, 2, axis=0), 2, axis=1)
            doubled: NDArray[np.integer] = felzenszwalb(image, **self.options)
            return doubled[::2, ::2]
        labels: NDArray[np.integer] = felzenszwalb(image, **self.options)
        return labels
