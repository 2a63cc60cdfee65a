import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles.cam import slow_resize
from oracles.perimeter_fit import slow_components
from oracles.pool import slow_pool, slow_pool_walk

from pfit_ray.ops.cam.cam import resize_maps
from pfit_ray.ops.cam.perimeter_fit import connected_regions
from pfit_ray.ops.cam.pool import pool_hr_cam, pool_hr_walk

LEFT_RIGHT = (np.array([[0, 0, 1, 1]], dtype=np.int32), 2)
WHOLE = (np.zeros((1, 4), dtype=np.int32), 1)


def test_the_mean_of_each_region_and_of_the_sources():
    hr_cam = np.array([[[0.8, 0.4, 0.2, 0.2]]], dtype=np.float32)
    pooled = pool_hr_cam(hr_cam, [LEFT_RIGHT])
    assert pooled.dtype == np.float32
    np.testing.assert_allclose(pooled, [[[0.6, 0.6, 0.2, 0.2]]])
    np.testing.assert_allclose(pool_hr_cam(hr_cam, [LEFT_RIGHT, WHOLE]), [[[0.5, 0.5, 0.3, 0.3]]])


def test_a_second_round_reaches_regions_that_overlap_those_of_another_source():
    hr_cam = np.array([[[1.0, 1.0, 0.0, 0.0, 0.0, 0.0]]], dtype=np.float32)
    pairs = (np.array([[0, 0, 1, 1, 2, 2]], dtype=np.int32), 3)
    shifted = (np.array([[0, 1, 1, 2, 2, 3]], dtype=np.int32), 4)
    once, twice = (pool_hr_cam(hr_cam, [pairs, shifted], rounds) for rounds in (1, 2))
    np.testing.assert_allclose(once, [[[1, 0.75, 0.25, 0, 0, 0]]])
    np.testing.assert_allclose(twice, [[[0.9375, 0.6875, 0.3125, 0.0625, 0, 0]]])
    np.testing.assert_array_equal(pool_hr_cam(hr_cam, [pairs], 5), pool_hr_cam(hr_cam, [pairs]))  # nothing to gain


def test_regions_of_one_label_that_do_not_touch_are_two():
    hr_cam = np.array([[[1.0, 0.0, 0.5]]], dtype=np.float32)
    regions = connected_regions(np.array([[7, 3, 7]], dtype=np.uint8))
    np.testing.assert_array_equal(pool_hr_cam(hr_cam, [regions]), hr_cam)


def test_the_mean_over_the_image_stays():
    rng = np.random.default_rng(0)
    hr_cam = rng.random((2, 30, 40)).astype(np.float32)
    sources = [connected_regions(rng.integers(0, 3, (30, 40))) for _ in range(3)]
    pooled = pool_hr_cam(hr_cam, sources)
    np.testing.assert_allclose(pooled.mean(axis=(1, 2)), hr_cam.mean(axis=(1, 2)), rtol=1e-5)


@given(
    st.integers(0, 10**6),
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(0, 2),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_equals_the_slow_one(seed, height, width, n_classes, n_sources, rounds):
    rng = np.random.default_rng(seed)
    hr_cam = rng.random((n_classes, height, width)).astype(np.float32)
    label_maps = [rng.integers(0, 3, (height, width), dtype=np.uint8) for _ in range(n_sources)]
    expected = hr_cam
    for _ in range(rounds):
        expected = slow_pool(expected, [slow_components(labels)[0] for labels in label_maps])
    pooled = pool_hr_cam(hr_cam, [connected_regions(labels) for labels in label_maps], rounds)
    np.testing.assert_allclose(pooled, expected, atol=1e-6)
    strided = resize_maps(pooled, -(-height // 4), -(-width // 4))
    np.testing.assert_allclose(strided, slow_resize(expected, *strided.shape[1:]), atol=1e-6)


def test_no_class():
    assert pool_hr_cam(np.zeros((0, 1, 4), np.float32), [LEFT_RIGHT]).shape == (0, 1, 4)


def test_bad_regions():
    with pytest.raises(ValueError, match="at least one source"):
        pool_hr_cam(np.zeros((1, 1, 4)), [])
    with pytest.raises(ValueError, match="differ in height or width"):
        pool_hr_cam(np.zeros((1, 2, 2)), [LEFT_RIGHT])
    with pytest.raises(ValueError, match="rounds is 0, must be at least 1"):
        pool_hr_cam(np.zeros((1, 1, 4)), [LEFT_RIGHT], 0)


HALVES = (np.array([[0, 0, 1, 1]], dtype=np.int32), 2)
WHOLE_WALK = (np.zeros((1, 4), dtype=np.int32), 1)


def test_the_mean_of_the_map_and_of_what_each_source_makes_of_it():
    hr_walk = np.array([[[0.8, 0.4, 0.2, 0.2]]], dtype=np.float32)
    before = hr_walk.copy()
    pooled = pool_hr_walk(hr_walk, [HALVES])
    assert pooled.dtype == np.float32
    np.testing.assert_allclose(pooled, [[[0.7, 0.5, 0.2, 0.2]]])
    both = [[[(0.8 + 0.6 + 0.4) / 3, (0.4 + 0.6 + 0.4) / 3, (0.2 + 0.2 + 0.4) / 3, (0.2 + 0.2 + 0.4) / 3]]]
    np.testing.assert_allclose(pool_hr_walk(hr_walk, [HALVES, WHOLE_WALK]), both, rtol=1e-6)
    np.testing.assert_array_equal(hr_walk, before)


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2), st.integers(1, 3))
def test_the_pooled_walk_equals_the_slow_one(seed, height, width, n_classes, n_sources):
    rng = np.random.default_rng(seed)
    hr_walk = rng.random((n_classes, height, width)).astype(np.float32)
    label_maps = [rng.integers(0, 3, (height, width), dtype=np.uint8) for _ in range(n_sources)]
    expected = slow_pool_walk(hr_walk, [slow_components(labels)[0] for labels in label_maps])
    pooled = pool_hr_walk(hr_walk, [connected_regions(labels) for labels in label_maps])
    np.testing.assert_allclose(pooled, expected, atol=1e-6)


def test_the_pooled_walk_refuses_bad_regions():
    with pytest.raises(ValueError, match="at least one source"):
        pool_hr_walk(np.zeros((1, 1, 4)), [])
    with pytest.raises(ValueError, match="differ in height or width"):
        pool_hr_walk(np.zeros((1, 2, 2)), [HALVES])
