"""The confusion matrix of one label map: one bincount."""

from collections.abc import Iterator

import numpy as np
from comparison import HEIGHT, WIDTH, Comparison, peak_megabytes, timed_in_turn

from pfit_ray.ops.evaluation import confusion

CLASSES = 20
IMAGES_PER_SECOND = 300


def per_class(prediction: np.ndarray, truth: np.ndarray) -> list[tuple[int, int, int]]:
    """TP, P and T of each class by three comparisons each, as the published scorer counts them."""
    known = truth < 255
    counts = []
    for label in range(CLASSES + 1):
        predicted, true = (prediction == label) & known, (truth == label) & known
        counts.append((int((predicted & true).sum()), int(predicted.sum()), int(true.sum())))
    return counts


def compare(device: str) -> Iterator[Comparison]:
    """Yield the row of the evaluation."""
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
