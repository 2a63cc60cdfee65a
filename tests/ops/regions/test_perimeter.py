import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from oracles.perimeter import slow_perimeter_map

from pfit_ray.ops.regions.perimeter import perimeter_map


def test_marks_the_left_and_upper_side_of_borders():
    labels = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 2]], dtype=np.uint8)
    expected = np.array([[0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], dtype=bool)
    np.testing.assert_array_equal(perimeter_map(labels), expected)


def test_one_region_has_no_perimeter():
    assert not perimeter_map(np.ones((3, 4), dtype=np.uint8)).any()


@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 7))
def test_equals_the_slow_one(seed, height, width):
    labels = np.random.default_rng(seed).integers(0, 3, (height, width), dtype=np.uint8)
    np.testing.assert_array_equal(perimeter_map(labels), slow_perimeter_map(labels))
