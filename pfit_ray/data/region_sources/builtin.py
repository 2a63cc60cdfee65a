"""Our own region sources: superpixels, graph-based segmentation, and label maps made elsewhere."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import felzenszwalb

from pfit_ray.config.sources import ExternalRegionsConfig
from pfit_ray.data.images import decode_regions
from pfit_ray.data.region_sources.base import RegionSource
from pfit_ray.errors import RowError
from pfit_ray.ops.superpixels.superpixels import quickshift_superpixels, slic_superpixels


class SlicSource(RegionSource):
    """SLIC superpixels; the options are those of `slic_superpixels`."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def regions(self, image: NDArray[np.uint8], image_id: str) -> NDArray[np.integer]:
        """Labels from 1."""
        return slic_superpixels(image, **self.options)


class QuickshiftSource(RegionSource):
    """Quickshift superpixels; the options are those of `quickshift_superpixels`."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def regions(self, image: NDArray[np.uint8], image_id: str) -> NDArray[np.integer]:
        """Labels from 0."""
        return quickshift_superpixels(image, **self.options)


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


class ExternalRegions(RegionSource):
    """PNGs by image id, of the image's size: palette or grey, of 8 or 16 bits; each value is a region.

    Args:
        options: the fields of `ExternalRegionsConfig`.
    """

    reads_pixels = False
    bytes_per_pixel = 16

    def __init__(self, **options: Any) -> None:
        from pfit_ray.data.sources.by_id import open_by_id  # the readers of sources, which no other worker needs

        config = ExternalRegionsConfig.model_validate(options)
        self.column = config.column
        self.files = open_by_id(config.url, config.form, (".png",), config.id_column, (config.column,))

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
