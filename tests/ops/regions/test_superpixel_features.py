import numpy as np
import pytest
from oracles import ward as oracle

from pfit_ray.ops.regions.region_maps import number_regions
from pfit_ray.ops.regions.superpixel_features import superpixel_features


@pytest.mark.parametrize("size", [(37, 50), (8, 8), (1, 1), (5, 3), (64, 4)])
def test_features_are_those_of_maps_resized_to_the_image(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    superpixels = number_regions(rng.integers(0, 12, size))
    levels = [
        rng.normal(2.0, 5.0, (channels, -(-size[0] // stride), -(-size[1] // stride))).astype(np.float32)
        for channels, stride in ((4, 4), (7, 8))
    ]
    for weights in ((1.0, 1.0, 1.0), (0.5, 0.0, 2.0), (0.0, 1.0, 0.0)):
        found = superpixel_features(image, superpixels, levels, weights)
        assert found.dtype == np.float32
        if size == (1, 1):  # nothing to centre: all is 0
            assert not found.any()
        else:
            expected = oracle.superpixel_features(image, superpixels, levels, weights)
            np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_map_without_any_difference_says_nothing() -> None:
    image = np.full((6, 6, 3), 90, dtype=np.uint8)
    superpixels = np.repeat(np.arange(6), 6).reshape(6, 6)
    found = superpixel_features(image, superpixels, [np.ones((3, 2, 2), np.float32)], (1, 1))
    np.testing.assert_allclose(found, np.zeros((6, 6)), atol=1e-9)


def test_weights_that_do_not_fit_are_refused() -> None:
    image, superpixels = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8)
    with pytest.raises(ValueError, match="1 weights are given for colour and 1 level"):
        superpixel_features(image, superpixels, [np.zeros((1, 1, 1))], (1,))
    with pytest.raises(ValueError, match="all weights are 0"):
        superpixel_features(image, superpixels, [], (0,))
