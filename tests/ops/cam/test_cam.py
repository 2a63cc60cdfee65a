import numpy as np
import pytest
from oracles.cam import slow_resize

from pfit_ray.ops.cam.cam import flip_sum, merge_cam_scales, merge_hr_cam, resize_image, resize_maps, scaled_size


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        ((375, 500), 0.5, (188, 250)),  # 187.5 rounds to the even 188
        ((373, 500), 0.5, (186, 250)),  # 186.5 rounds to the even 186
        ((375, 500), 1.5, (562, 750)),
        ((1, 1), 0.5, (1, 1)),
        ((1, 1), 2.0, (2, 2)),
    ],
)
def test_scaled_size(size, scale, expected):
    assert scaled_size(*size, scale) == expected


def test_resize_image():
    image = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    assert resize_image(image, (3, 4)).shape == (3, 4, 3)
    np.testing.assert_array_equal(resize_image(image, (6, 9)), image)
    flat = np.full((5, 7, 3), 90, dtype=np.uint8)
    np.testing.assert_array_equal(resize_image(flat, (11, 1)), np.full((11, 1, 3), 90))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 5), (4, 4)])
def test_resize_maps_equals_the_slow_one(size):
    maps = np.random.default_rng(0).random((2, 4, 4)).astype(np.float32)
    maps.flags.writeable = False
    np.testing.assert_allclose(resize_maps(maps, *size), slow_resize(maps, *size), atol=1e-6)


def test_flip_sum():
    maps = np.array([[[[1, -2, 3]]], [[[10, 20, -30]]]], dtype=np.float32)
    np.testing.assert_array_equal(flip_sum(maps), [[[1, 20, 13]]])
    np.testing.assert_array_equal(flip_sum(maps[:1]), [[[1, 0, 3]]])
    assert flip_sum(np.zeros((2, 0, 3, 4), np.float32)).shape == (0, 3, 4)


def test_cam_is_normalised_per_class():
    maps = [
        np.array([[[2.0, 1.0]], [[0.0, 0.0]]], np.float32),
        np.array([[[2.0, 0.0]], [[0.0, 0.0]]], np.float32),
    ]
    cam = merge_cam_scales(maps, 1, 2)
    assert cam.dtype == np.float32
    np.testing.assert_allclose(cam, [[[4 / 4.00001, 1 / 4.00001]], [[0, 0]]], rtol=1e-6)


@pytest.mark.parametrize("crop", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (16, 32), (17, 40)])
def test_merging_equals_the_slow_one(size, crop):
    rng = np.random.default_rng(0)
    maps = [rng.random((2, *shape)).astype(np.float32) for shape in ((1, 2), (2, 3), (3, 5))]
    height, width = size
    grid = (-(-height // 16) * 16, -(-width // 16) * 16) if crop else size
    total = sum(slow_resize(scale, *grid) for scale in maps)[:, :height, :width]
    expected = total / (total.max(axis=(1, 2), keepdims=True) + 1e-5)
    np.testing.assert_allclose(merge_hr_cam(maps, height, width, crop=crop), expected, atol=1e-6)
    if not crop:
        np.testing.assert_allclose(merge_cam_scales(maps, height, width), expected, atol=1e-6)


def test_no_class():
    maps = [np.zeros((0, 2, 3), np.float32), np.zeros((0, 4, 6), np.float32)]
    assert merge_cam_scales(maps, 5, 6).shape == (0, 5, 6)
    for crop in (True, False):
        assert merge_hr_cam(maps, 20, 21, crop=crop).shape == (0, 20, 21)


def test_no_scale():
    with pytest.raises(ValueError, match="at least one scale"):
        merge_cam_scales([], 4, 4)
