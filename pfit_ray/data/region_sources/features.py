"""Region source: superpixels merged on the CAM network's own features."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfit_ray.config.sources import FeaturesConfig
from pfit_ray.data.region_sources.base import RegionSource
from pfit_ray.ops.regions.region_maps import number_regions
from pfit_ray.ops.regions.superpixel_features import superpixel_features
from pfit_ray.ops.regions.ward import hierarchy
from pfit_ray.ops.superpixels.superpixels import quickshift_superpixels, slic_superpixels

_SUPERPIXELS: dict[str, Callable[..., NDArray[np.int32]]] = {
    "slic": slic_superpixels,
    "quickshift": quickshift_superpixels,
}


class FeatureRegions(RegionSource):
    """A hierarchy of regions: Ward's clustering merges neighbouring superpixels that the CAM network sees alike.

    Superpixels are compared by their mean colour and the network's low-level features, which follow the borders of
    objects better than colour alone. A tree is cut at several numbers of regions, and the CAM is pooled within all of
    them. Not published; docs/research/results.md says what it is worth.

    Args:
        slic: options of `slic_superpixels`.
        quickshift: options of `quickshift_superpixels`.
        options: the fields of `FeaturesConfig`.
    """

    bytes_per_pixel = 300

    def __init__(self, slic: Mapping[str, Any], quickshift: Mapping[str, Any], **options: Any) -> None:
        self.config = FeaturesConfig.model_validate(options)
        self.numbers = {"slic": dict(slic), "quickshift": dict(quickshift)}
        self.weights = (self.config.colour, *self.config.levels.values())
        self.levels = tuple(self.config.levels)

    def regions(self, image: NDArray[np.uint8], image_id: str) -> NDArray[np.integer]:
        """The source has several label maps, never one; see `label_maps`."""
        raise NotImplementedError("features give several label maps; call label_maps")

    def label_maps(
        self, image: NDArray[np.uint8], image_id: str, levels: Sequence[NDArray[np.float32]]
    ) -> Sequence[NDArray[np.integer]]:
        """The label maps of each kind's tree, one for each cut; labels from 0."""
        found: list[NDArray[np.integer]] = []
        for kind in self.config.superpixels:
            superpixels = number_regions(_SUPERPIXELS[kind](image, **self.numbers[kind]))
            features = superpixel_features(image, superpixels, levels, self.weights)
            found += hierarchy(superpixels, features, self.config.cuts)
        return found
