import numpy as np
import pytest

from pfit_ray.ops.scores.bootstrap import Bootstrap, label_iou, mean_iou, pixel_counts
from pfit_ray.ops.scores.evaluation import confusion, scores


def matrices(images: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (images, 2, 8, 8)).astype(np.uint8)
    labels[:, 1][rng.random((images, 8, 8)) < 0.6] = 0
    return np.stack([confusion(prediction, truth, 4) for prediction, truth in labels])


def test_counts_and_mean_iou_are_those_of_the_scores() -> None:
    matrix = matrices(5).sum(axis=0)
    result = scores(matrix)
    np.testing.assert_allclose(label_iou(pixel_counts(matrix)), result.iou, equal_nan=True)
    assert np.isnan(result.iou[4])
    assert mean_iou(pixel_counts(matrix)) == pytest.approx(result.miou)
    assert np.isnan(mean_iou(np.zeros((3, 3))))


def test_interval_is_that_of_drawing_images_again() -> None:
    """Against the plain bootstrap: exactly N images with replacement, from the whole list."""
    counts = pixel_counts(matrices(200))
    bootstrap = Bootstrap(2000, 7)
    bootstrap.add([str(number) for number in range(200)], counts)
    interval = bootstrap.interval()
    assert interval is not None
    draws = np.random.default_rng(1).multinomial(200, np.full(200, 1 / 200), 2000)
    plain = np.percentile(mean_iou(np.tensordot(draws, counts, axes=1)), [2.5, 97.5])
    width = plain[1] - plain[0]
    np.testing.assert_allclose(interval, plain, atol=0.15 * width)
    assert interval[0] < mean_iou(counts.sum(axis=0)) < interval[1]


def test_order_and_grouping_of_images_do_not_matter() -> None:
    counts, ids = pixel_counts(matrices(12)), [f"image_{number}" for number in range(12)]
    one, other, reseeded = Bootstrap(50, 3), Bootstrap(50, 3), Bootstrap(50, 4)
    one.add(ids, counts)
    reseeded.add(ids, counts)
    for start in (8, 4, 0):
        other.add(ids[start : start + 4], counts[start : start + 4])
    assert one.interval() == other.interval() != reseeded.interval()


def test_thresholds_have_an_axis_of_their_own() -> None:
    counts = pixel_counts(np.stack([matrices(9, 1), matrices(9, 2)], axis=1))
    both, second = Bootstrap(40, 0), Bootstrap(40, 0)
    ids = [str(number) for number in range(9)]
    both.add(ids, counts)
    second.add(ids, counts[:, 1])
    assert both.interval(1) == second.interval()


def test_nothing_has_no_interval() -> None:
    assert Bootstrap(10, 0).interval() is None
    empty = Bootstrap(10, 0)
    empty.add(["a"], np.zeros((1, 2, 3), np.int64))
    assert empty.interval() is None
