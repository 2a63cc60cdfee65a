import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles.perimeter_fit import slow_components
from oracles.pool import slow_pool_fit, slow_pool_fit_cam

from pfit_ray.ops.cam.perimeter_fit import connected_regions
from pfit_ray.ops.cam.pool import pool_hr_cam
from pfit_ray.ops.cam.pool_fit import pool_fit_cam, pool_fit_hr_cam


def test_the_pooled_cam_is_doubled_where_all_masks_agree():
    hr_cam = np.array([[[0.8, 0.4, 0.2, 0.2]]], dtype=np.float32)
    regions = (np.array([[0, 0, 1, 1]], dtype=np.int32), 2)
    masks = [np.array([[[1, 1, 0, 1]]], dtype=bool), np.array([[[1, 0, 0, 1]]], dtype=bool)]
    combined = pool_fit_hr_cam(pool_hr_cam(hr_cam, [regions]), masks)
    assert combined.dtype == np.float32
    np.testing.assert_allclose(combined, [[[1.2, 0.6, 0.2, 0.4]]])


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2), st.integers(1, 3))
def test_equals_the_slow_one(seed, height, width, n_classes, n_sources):
    rng = np.random.default_rng(seed)
    hr_cam = rng.random((n_classes, height, width)).astype(np.float32)
    label_maps = [rng.integers(0, 3, (height, width), dtype=np.uint8) for _ in range(n_sources)]
    masks = [rng.random((n_classes, height, width)) < 0.7 for _ in range(n_sources)]
    slow = [slow_components(labels)[0] for labels in label_maps]
    regions = [connected_regions(labels) for labels in label_maps]
    pooled = pool_hr_cam(hr_cam, regions)
    combined = pool_fit_hr_cam(pooled, masks)
    np.testing.assert_allclose(combined, slow_pool_fit(hr_cam, slow, masks), atol=1e-6)
    grid = -(-height // 4), -(-width // 4)
    strided = pool_fit_cam(pooled, masks, *grid)
    np.testing.assert_allclose(strided, slow_pool_fit_cam(hr_cam, slow, masks, *grid), atol=1e-6)


def test_masks_are_needed():
    pooled = np.zeros((1, 1, 2), dtype=np.float32)
    with pytest.raises(ValueError, match="at least one mask"):
        pool_fit_hr_cam(pooled, [])
    with pytest.raises(ValueError, match="at least one mask"):
        pool_fit_cam(pooled, [], 1, 1)
