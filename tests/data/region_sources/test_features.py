import numpy as np
import pytest

from pfit_ray.config.sources import RegionSourceConfig
from pfit_ray.config.stages import RegionsConfig
from pfit_ray.data.region_sources import make_region_source
from pfit_ray.ops.cam.perimeter_fit import connected_regions


def source(**options):
    regions = RegionsConfig(sources=(RegionSourceConfig(kind="features", options=options),))
    return make_region_source(regions, regions.sources[0])


def test_what_the_network_tells_apart_stays_apart() -> None:
    """A picture of one colour, whose network features differ left and right."""
    image = np.full((32, 40, 3), 120, dtype=np.uint8)
    image += np.random.default_rng(0).integers(0, 4, image.shape, dtype=np.uint8)
    features = np.zeros((2, 8, 10), dtype=np.float32)
    features[0, :, 5:] = 1
    (labels,) = source(superpixels=["slic"], cuts=[2], levels={1: 1.0}, colour=0.1).label_maps(image, "a", [features])
    assert (len(np.unique(labels[:, :16])), len(np.unique(labels[:, 24:]))) == (1, 1)
    assert labels[0, 0] != labels[0, -1]


def test_cuts_of_each_tree_in_the_order_of_the_columns() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)
    levels = [rng.normal(size=(5, 10, 14)).astype(np.float32), rng.normal(size=(6, 5, 7)).astype(np.float32)]
    found = source(cuts=[3, 9]).label_maps(image, "a", levels)
    assert [labels.max() + 1 for labels in found] == [3, 9, 3, 9]
    for coarse, fine in (found[:2], found[2:]):
        assert len(np.unique(coarse * 100 + fine)) == 9
    again = source(cuts=[3, 9]).label_maps(image, "b", levels)
    assert all(np.array_equal(one, other) for one, other in zip(found, again, strict=True))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2)])
def test_the_smallest_images_have_regions(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    levels = [np.zeros((3, 1, -(-size[1] // 4)), np.float32), np.zeros((3, 1, -(-size[1] // 8)), np.float32)]
    for labels in source().label_maps(image, "a", levels):
        assert labels.shape == size
        assert connected_regions(labels)[1] >= 1
