import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.evaluation import slow_confusion, slow_labels
from support.golden import cases, load

from pfit_ray.ops.scores.evaluation import confusion, scores, threshold_sweep


def test_confusion_by_hand() -> None:
    truth = np.array([[0, 0, 1, 2, 255, 2]], np.uint8)
    prediction = np.array([[0, 1, 1, 255, 1, 2]], np.uint8)
    assert confusion(prediction, truth, 2).tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]]


def test_scores_by_hand() -> None:
    result = scores(np.array([[6, 2, 0, 0], [1, 2, 0, 1], [0, 0, 0, 0]]))
    np.testing.assert_allclose(result.iou, [6 / 9, 2 / 6, np.nan], equal_nan=True)
    np.testing.assert_allclose(result.precision, [6 / 7, 2 / 4, np.nan], equal_nan=True)
    np.testing.assert_allclose(result.recall, [6 / 8, 2 / 4, np.nan], equal_nan=True)
    assert result.miou == pytest.approx((6 / 9 + 2 / 6) / 2)
    assert result.miou_published == pytest.approx((6 / 9 + 2 / 6) / 3)
    assert result.fp == pytest.approx(2 / 6 / 2)
    assert result.fn == pytest.approx(2 / 6 / 2)


def test_scores_of_nothing() -> None:
    result = scores(np.zeros((2, 3), np.int64))
    assert np.isnan(result.miou)
    assert result.miou_published == 0.0
    assert np.isnan(result.iou).all()


def test_missing_predictions_are_misses_but_no_false_positives() -> None:
    truth = np.array([[1, 1, 1, 0]], np.uint8)
    result = scores(confusion(np.array([[1, 255, 255, 255]], np.uint8), truth, 1))
    np.testing.assert_allclose(result.iou, [0.0, 1 / 3])
    np.testing.assert_allclose(result.precision, [np.nan, 1.0], equal_nan=True)
    assert result.fp == 0.0
    assert result.fn == pytest.approx(2 / 3)


def test_wrong_input_is_refused() -> None:
    one = np.zeros((1, 1), np.uint8)
    with pytest.raises(ValueError, match="sizes must be equal"):
        confusion(one, np.zeros((1, 2), np.uint8), 1)
    with pytest.raises(ValueError, match="prediction holds label 2"):
        confusion(one + np.uint8(2), one, 1)
    with pytest.raises(ValueError, match="ground truth holds label 254"):
        confusion(one, one + np.uint8(254), 1)
    with pytest.raises(ValueError, match="sizes must be equal"):
        threshold_sweep(np.zeros((1, 2, 2)), np.array([1]), one, [0.5], 1)
    with pytest.raises(ValueError, match="class maps holds label 3"):
        threshold_sweep(np.ones((1, 1, 1)), np.array([3]), one, [0.5], 2)


def test_254_classes() -> None:
    labels = np.arange(256, dtype=np.uint8)[None]
    matrix = confusion(labels, labels, 254)
    np.testing.assert_array_equal(matrix, np.eye(255, 256, dtype=np.int64))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 8), st.integers(1, 8))
def test_confusion_equals_the_slow_one(seed: int, n_classes: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.array([*range(n_classes + 1), 255], np.uint8)
    prediction, truth = rng.choice(labels, (2, height, width))
    matrix = confusion(prediction, truth, n_classes)
    np.testing.assert_array_equal(matrix, slow_confusion(prediction, truth, n_classes))


def test_sweep_by_hand() -> None:
    maps = np.array([[[0.2, 0.5, 0.5]], [[0.1, 0.5, 0.7]]], np.float32)
    truth = np.array([[0, 1, 255]], np.uint8)
    sweep = threshold_sweep(maps, np.array([1, 2]), truth, [0.5, 0.0], 2)
    assert sweep[0].tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert sweep[1].tolist() == [[0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 4),
    st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.3, 0.5, 0.75, 1.0]), max_size=6),
    st.sampled_from([np.float16, np.float32, np.float64]),
)
def test_sweep_equals_the_slow_one(seed: int, n_keys: int, thresholds: list[float], dtype: type) -> None:
    rng = np.random.default_rng(seed)
    n_classes = 5
    keys = np.sort(rng.permutation(np.arange(1, n_classes + 1))[:n_keys])
    maps = (rng.integers(0, 21, (n_keys, 6, 7)) / 20).astype(dtype)
    truth = rng.choice(np.array([0, 1, 2, 5, 255], np.uint8), (6, 7))
    sweep = threshold_sweep(maps, keys, truth, thresholds, n_classes)
    assert sweep.shape == (len(thresholds), n_classes + 1, n_classes + 2)
    for matrix, threshold in zip(sweep, thresholds, strict=True):
        prediction = slow_labels(maps, keys.tolist(), threshold)
        np.testing.assert_array_equal(matrix, slow_confusion(prediction, truth, n_classes))


@pytest.mark.parametrize("file", cases("09_evaluate/*_result.txt"))
def test_as_published(file: Path) -> None:
    name = file.stem.removesuffix("_result")
    pairs = sorted(file.parent.glob(f"{name}_*.npz"), key=lambda pair: int(pair.stem.rsplit("_e", 1)[1]))
    assert pairs
    matrices = [confusion(unit["pred"], unit["gt"], 20) for unit in map(load, pairs)]
    published = file.read_text()
    reports = re.findall(r"evaluate.py.*: mIoU=([\d.]+)%, FP=([\d.]+), FN=([\d.]+)", published)
    assert len(reports) == 2
    for report, some in zip(reports, (matrices, matrices[::8]), strict=True):
        result = scores(np.sum(some, axis=0))
        got = f"{result.miou_published * 100:.3f}", f"{result.fp:.4f}", f"{result.fn:.4f}"
        assert got == report
    per_class = [float(number) for number in re.findall(r'": ([\d.]+)', published)]
    # A class that is absent from truth and prediction has no IoU here and 0 there.
    iou = np.nan_to_num(scores(np.sum(matrices, axis=0)).iou * 100)
    np.testing.assert_allclose(iou, per_class, rtol=1e-9)
    ((mean, foreground),) = re.findall(r"meter.*mIoU=np.float64\(([\d.]+)\) fg=np.float64\(([\d.]+)\)", published)
    np.testing.assert_allclose([iou.mean(), iou[1:].mean()], [float(mean), float(foreground)], rtol=1e-9)
