import numpy as np
import pytest
from oracles.evaluation import slow_labels

from pfit_ray.ops.cam.thresholding import label_ids, strongest_class, threshold_classes

MAPS = np.array([[[0.2, 0.5, 0.5, 0.9]], [[0.1, 0.5, 0.7, 0.3]]], dtype=np.float32)


def test_strongest_class() -> None:
    values, classes = strongest_class(MAPS)
    np.testing.assert_array_equal(values, np.array([[0.2, 0.5, 0.7, 0.9]], np.float32))
    assert classes.tolist() == [[1, 1, 2, 1]]


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [(0.0, [1, 1, 2, 1]), (0.5, [0, 0, 2, 1]), (0.7, [0, 0, 0, 1]), (1.0, [0, 0, 0, 0])],
)
def test_background_wins_ties(threshold: float, expected: list[int]) -> None:
    assert threshold_classes(MAPS, threshold).tolist() == [expected]


def test_no_classes_are_background() -> None:
    assert threshold_classes(np.zeros((0, 2, 1), np.float32), 0.0).tolist() == [[0], [0]]


def test_label_ids() -> None:
    assert label_ids(np.array([3, 254], np.int32)).tolist() == [0, 3, 254]
    assert label_ids(np.array([], np.int32)).tolist() == [0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_equals_the_argmax_of_the_stack(dtype: type) -> None:
    rng = np.random.default_rng(0)
    maps = (rng.integers(0, 5, (3, 20, 20)) / 4).astype(dtype)
    for threshold in (0.0, 0.25, 0.4, 1.0):
        ids = label_ids(np.array([2, 5, 7]))[threshold_classes(maps, threshold)]
        np.testing.assert_array_equal(ids, slow_labels(maps, [2, 5, 7], threshold))
