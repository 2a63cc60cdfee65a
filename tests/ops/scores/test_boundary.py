import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.boundary import slow_band

from pfit_ray.ops.scores.boundary import BoundaryCounter, band_width, boundary_band


def test_band_by_hand() -> None:
    mask = np.zeros((7, 7), bool)
    mask[1:6, 1:6] = True
    band = boundary_band(mask, 1)
    assert band.sum() == 16
    assert not band[2:5, 2:5].any()
    assert boundary_band(np.ones((5, 5), bool), 2).sum() == 24  # the image's border is a border


def test_width_is_two_percent_of_the_diagonal() -> None:
    assert band_width(375, 500) == 12  # 0.02 * 625 = 12.5, half to even as in Python
    assert band_width(3, 4) == 1
    assert band_width(300, 400, ratio=0.1) == 50


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))
def test_band_equals_the_slow_one(seed: int, width: int, height: int, columns: int) -> None:
    mask = np.random.default_rng(seed).random((height, columns)) < 0.8
    np.testing.assert_array_equal(boundary_band(mask, width), slow_band(mask, width))


def test_a_perfect_label_map_has_the_bands_of_its_truth() -> None:
    """Whatever it says where the truth is ignored."""
    truth = np.zeros((20, 30), np.uint8)
    truth[4:16, 5:20] = 1
    truth[4:6, 5:20] = 255
    label = np.where(truth == 255, 1, truth).astype(np.uint8)
    counts = BoundaryCounter(truth, 2).count(label)
    assert counts[0, 0] == counts[0, 1] == counts[0, 2] > 0
    assert counts[1, 0] == counts[1, 1] == counts[1, 2] > 0
    assert counts[2].tolist() == [0, 0, 0]


@pytest.mark.parametrize("shift", [1, 3])
def test_boundary_iou_falls_faster_than_iou(shift: int) -> None:
    truth = np.zeros((100, 100), np.uint8)
    truth[20:80, 20:80] = 1
    moved = np.roll(truth, shift, axis=1)
    hits, true, predicted = BoundaryCounter(truth, 1).count(moved)[1]
    iou = ((truth == 1) & (moved == 1)).sum() / ((truth == 1) | (moved == 1)).sum()
    assert hits / (true + predicted - hits) < iou


def test_pixels_without_prediction_are_in_no_band() -> None:
    counts = BoundaryCounter(np.array([[1, 1, 0]], np.uint8), 1).count(np.array([[1, 255, 255]], np.uint8))
    assert counts.tolist() == [[0, 1, 0], [1, 2, 1]]
