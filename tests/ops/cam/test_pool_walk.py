import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles.perimeter_fit import slow_components
from oracles.pool import slow_pool_walk

from pfit_ray.ops.cam.perimeter_fit import connected_regions
from pfit_ray.ops.cam.pool_walk import pool_hr_walk

LEFT_RIGHT = (np.array([[0, 0, 1, 1]], dtype=np.int32), 2)
WHOLE = (np.zeros((1, 4), dtype=np.int32), 1)


def test_the_mean_of_the_map_and_of_what_each_source_makes_of_it():
    hr_walk = np.array([[[0.8, 0.4, 0.2, 0.2]]], dtype=np.float32)
    before = hr_walk.copy()
    pooled = pool_hr_walk(hr_walk, [LEFT_RIGHT])
    assert pooled.dtype == np.float32
    np.testing.assert_allclose(pooled, [[[0.7, 0.5, 0.2, 0.2]]])
    both = [[[(0.8 + 0.6 + 0.4) / 3, (0.4 + 0.6 + 0.4) / 3, (0.2 + 0.2 + 0.4) / 3, (0.2 + 0.2 + 0.4) / 3]]]
    np.testing.assert_allclose(pool_hr_walk(hr_walk, [LEFT_RIGHT, WHOLE]), both, rtol=1e-6)
    np.testing.assert_array_equal(hr_walk, before)


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2), st.integers(1, 3))
def test_equals_the_slow_one(seed, height, width, n_classes, n_sources):
    rng = np.random.default_rng(seed)
    hr_walk = rng.random((n_classes, height, width)).astype(np.float32)
    label_maps = [rng.integers(0, 3, (height, width), dtype=np.uint8) for _ in range(n_sources)]
    expected = slow_pool_walk(hr_walk, [slow_components(labels)[0] for labels in label_maps])
    pooled = pool_hr_walk(hr_walk, [connected_regions(labels) for labels in label_maps])
    np.testing.assert_allclose(pooled, expected, atol=1e-6)


def test_bad_regions():
    with pytest.raises(ValueError, match="at least one source"):
        pool_hr_walk(np.zeros((1, 1, 4)), [])
    with pytest.raises(ValueError, match="differ in height or width"):
        pool_hr_walk(np.zeros((1, 2, 2)), [LEFT_RIGHT])
