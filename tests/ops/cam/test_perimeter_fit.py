import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles.perimeter_fit import slow_components, slow_fit_masks

from pfit_ray.ops.cam.perimeter_fit import connected_regions, fit_masks


def test_components_are_4_connected_and_in_reading_order():
    labels = np.array([[3, 0, 0], [0, 3, 3], [0, 0, 3]], dtype=np.uint8)
    components, count = connected_regions(labels)
    np.testing.assert_array_equal(components, [[0, 1, 1], [2, 3, 3], [2, 2, 3]])
    assert components.dtype == np.int32
    assert count == 4


def test_a_component_survives_only_wholly_inside_the_rough_cam():
    components = np.array([[0, 0, 1, 1]], dtype=np.int32)
    perimeter = np.array([[0, 1, 0, 0]], dtype=bool)
    hr_cam = np.array([[[0.9, 0.9, 0.9, 0.0]], [[0.0, 0.9, 0.9, 0.9]], [[0.9, 0.0, 0.0, 0.0]]], np.float32)
    masks = fit_masks(components, 2, perimeter, hr_cam, threshold=0.5)
    np.testing.assert_array_equal(masks, np.array([[[1, 1, 0, 0]], [[0, 1, 1, 1]], [[0, 0, 0, 0]]], bool))


def test_the_threshold_itself_is_outside():
    hr_cam = np.array([[[0.05, np.nextafter(np.float32(0.05), np.float32(1))]]], dtype=np.float32)
    components = np.array([[0, 1]], dtype=np.int32)
    masks = fit_masks(components, 2, np.zeros((1, 2), bool), hr_cam, threshold=0.05)
    np.testing.assert_array_equal(masks, [[[False, True]]])


def test_no_class():
    components, count = connected_regions(np.zeros((2, 3), dtype=np.uint8))
    masks = fit_masks(components, count, np.zeros((2, 3), bool), np.zeros((0, 2, 3)), threshold=0.0)
    assert masks.shape == (0, 2, 3)


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="differ in height or width"):
        fit_masks(np.zeros((2, 3), np.int32), 1, np.zeros((2, 3), bool), np.zeros((1, 3, 2)), threshold=0.0)


@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 8), st.integers(0, 3))
def test_equals_the_slow_one(seed, height, width, n_classes):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (height, width), dtype=np.uint8)
    perimeter = rng.random((height, width)) < 0.3
    hr_cam = rng.choice([0.0, 0.2, 0.9], (n_classes, height, width), p=[0.1, 0.1, 0.8]).astype(np.float32)
    components, count = connected_regions(labels)
    expected, expected_count = slow_components(labels)
    np.testing.assert_array_equal(components, expected)
    assert count == expected_count
    for threshold in (0.0, 0.5):
        masks = fit_masks(components, count, perimeter, hr_cam, threshold=threshold)
        np.testing.assert_array_equal(masks, slow_fit_masks(expected, perimeter, hr_cam, threshold))
