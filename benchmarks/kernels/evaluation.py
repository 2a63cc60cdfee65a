"""Confusion matrices of one label map and of a sweep of thresholds: one bincount each."""

from collections.abc import Iterator

import numpy as np
from comparison import HEIGHT, WIDTH, Comparison, peak_megabytes, timed_in_turn

from pfit_ray.ops.cam.cam import resize_maps
from pfit_ray.ops.cam.thresholding import label_ids, threshold_classes
from pfit_ray.ops.scores.evaluation import confusion, threshold_sweep

CLASSES = 20
IMAGES_PER_SECOND = 300
THRESHOLDS = [round(0.05 + 0.01 * step, 2) for step in range(70)]
KEYS = np.array([3, 15])


def per_class(prediction: np.ndarray, truth: np.ndarray) -> list[tuple[int, int, int]]:
    """TP, P and T of each class by three comparisons each, as the published scorer counts them."""
    known = truth < 255
    counts = []
    for label in range(CLASSES + 1):
        predicted, true = (prediction == label) & known, (truth == label) & known
        counts.append((int((predicted & true).sum()), int(predicted.sum()), int(true.sum())))
    return counts


def smooth_maps(generator: np.random.Generator) -> np.ndarray:
    """Class maps in [0, 1] as they are scored: float32, enlarged from stride 4."""
    return resize_maps(generator.random((len(KEYS), HEIGHT // 4, WIDTH // 4)), HEIGHT, WIDTH)


def one_by_one(maps: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """One label map and one confusion matrix per threshold."""
    ids = label_ids(KEYS)
    return np.stack([confusion(ids[threshold_classes(maps, level)], truth, CLASSES) for level in THRESHOLDS])


def compare(device: str) -> Iterator[Comparison]:
    """Yield a row of the confusion matrix and one of the sweep."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, CLASSES + 1, (2, HEIGHT // 25, WIDTH // 25), dtype=np.uint8)
    prediction, truth = coarse.repeat(25, axis=1).repeat(25, axis=2)
    truth[::25] = 255
    slow, ours = timed_in_turn(
        [lambda: per_class(prediction, truth), lambda: confusion(prediction, truth, CLASSES)], repeat=20
    )
    matrix = ours.result[:, : CLASSES + 1]
    counts = list(zip(matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1), strict=True))
    rate = 1 / ours.seconds
    yield Comparison(
        "confusion matrix",
        "loop over classes",
        slow.seconds,
        ours.seconds,
        peak_megabytes(lambda: confusion(prediction, truth, CLASSES)),
        "identical" if counts == slow.result else "different",
        f">= {IMAGES_PER_SECOND} images/s",
        rate >= IMAGES_PER_SECOND,
    )
    maps = smooth_maps(generator)
    slow, ours = timed_in_turn(
        [lambda: one_by_one(maps, truth), lambda: threshold_sweep(maps, KEYS, truth, THRESHOLDS, CLASSES)]
    )
    yield Comparison(
        f"sweep of {len(THRESHOLDS)} thresholds, {len(KEYS)} classes",
        "one confusion matrix per threshold",
        slow.seconds,
        ours.seconds,
        peak_megabytes(lambda: threshold_sweep(maps, KEYS, truth, THRESHOLDS, CLASSES)),
        "identical" if np.array_equal(ours.result, slow.result) else "different",
        "faster",
        ours.seconds < slow.seconds,
    )
