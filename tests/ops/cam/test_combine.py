import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles.cam import slow_resize
from oracles.perimeter_fit import slow_components
from oracles.pool import slow_pool_fit, slow_pool_fit_cam
from support.golden import array, assert_close_to_maximum, cases, load

from pfit_ray.ops.cam.cam import resize_maps
from pfit_ray.ops.cam.combine import combine_cam, combine_hr_cam
from pfit_ray.ops.cam.perimeter_fit import connected_regions
from pfit_ray.ops.cam.pool import pool_hr_cam


def test_hr_cam_doubles_where_all_masks_agree():
    hr_cam = np.array([[[0.2, 0.4, 1.0]]], dtype=np.float32)
    masks = [np.array([[[1, 1, 0]]], dtype=bool), np.array([[[1, 0, 0]]], dtype=bool)]
    combined = combine_hr_cam(hr_cam, masks)
    assert combined.dtype == np.float32
    np.testing.assert_allclose(combined, [[[0.4, 0.4, 1.0]]])
    np.testing.assert_allclose(combine_hr_cam(hr_cam, masks[:1]), [[[0.4, 0.8, 1.0]]])


def test_cam_grows_by_the_product_of_the_resized_masks():
    cam = np.array([[[0.5, 0.8]]], dtype=np.float32)
    left = np.zeros((1, 4, 8), dtype=bool)
    left[:, :, :2] = True  # the grid's first sample lies between pixels 1 and 2
    assert combine_cam(cam, [left])[0].tolist() == [[0.75, pytest.approx(0.8)]]
    assert combine_cam(cam, [left, left])[0].tolist() == [[0.625, pytest.approx(0.8)]]


@pytest.mark.parametrize("n_masks", [1, 2, 3])
def test_cam_equals_the_slow_one(n_masks):
    rng = np.random.default_rng(n_masks)
    cam = rng.random((2, 3, 4)).astype(np.float32)
    masks = [rng.random((2, 9, 14)) < 0.5 for _ in range(n_masks)]
    agreed = np.prod([slow_resize(mask, 3, 4) for mask in masks], axis=0)
    np.testing.assert_allclose(combine_cam(cam, masks), cam * (1 + agreed), atol=1e-6)


def test_no_class_and_one_pixel():
    nothing = np.zeros((0, 5, 5), dtype=bool)
    assert combine_hr_cam(np.zeros((0, 5, 5), np.float32), [nothing, nothing]).shape == (0, 5, 5)
    assert combine_cam(np.zeros((0, 2, 2), np.float32), [nothing, nothing]).shape == (0, 2, 2)
    pixel = np.ones((1, 1, 1), dtype=np.float32)
    assert combine_cam(pixel, [pixel > 0]) == 2


@pytest.mark.parametrize("combine", [combine_hr_cam, combine_cam])
def test_bad_masks(combine):
    cam = np.zeros((1, 2, 2), dtype=np.float32)
    with pytest.raises(ValueError, match="at least one mask"):
        combine(cam, [])
    with pytest.raises(ValueError, match="1 classes"):
        combine(cam, [np.zeros((2, 2, 2), bool)])


@pytest.mark.parametrize("file", cases("05_combined/*.npz"))
def test_as_published(file):
    published, plain = load(file), array(f"03_cam_synth/{file.name}")
    masks = [array(f"04_perimeterfit_{source}/{file.name}")["mask"][1:] > 0 for source in ("slic", "quick")]
    assert_close_to_maximum(combine_cam(plain["cam"], masks), published["cam"])
    assert_close_to_maximum(combine_hr_cam(plain["hr_cam"], masks), published["hr_cam"], 1e-6)


def test_the_pooled_cam_is_doubled_where_all_masks_agree():
    hr_cam = np.array([[[0.8, 0.4, 0.2, 0.2]]], dtype=np.float32)
    regions = (np.array([[0, 0, 1, 1]], dtype=np.int32), 2)
    masks = [np.array([[[1, 1, 0, 1]]], dtype=bool), np.array([[[1, 0, 0, 1]]], dtype=bool)]
    combined = combine_hr_cam(pool_hr_cam(hr_cam, [regions]), masks)
    assert combined.dtype == np.float32
    np.testing.assert_allclose(combined, [[[1.2, 0.6, 0.2, 0.4]]])


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2), st.integers(1, 3))
def test_pooled_and_doubled_equals_the_slow_one(seed, height, width, n_classes, n_sources):
    rng = np.random.default_rng(seed)
    hr_cam = rng.random((n_classes, height, width)).astype(np.float32)
    label_maps = [rng.integers(0, 3, (height, width), dtype=np.uint8) for _ in range(n_sources)]
    masks = [rng.random((n_classes, height, width)) < 0.7 for _ in range(n_sources)]
    slow = [slow_components(labels)[0] for labels in label_maps]
    regions = [connected_regions(labels) for labels in label_maps]
    pooled = pool_hr_cam(hr_cam, regions)
    combined = combine_hr_cam(pooled, masks)
    np.testing.assert_allclose(combined, slow_pool_fit(hr_cam, slow, masks), atol=1e-6)
    grid = -(-height // 4), -(-width // 4)
    strided = combine_cam(resize_maps(pooled, *grid), masks)
    np.testing.assert_allclose(strided, slow_pool_fit_cam(hr_cam, slow, masks, *grid), atol=1e-6)
