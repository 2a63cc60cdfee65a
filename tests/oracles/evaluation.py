"""Confusion matrices pixel by pixel, and labels by stacking the threshold on the maps."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def slow_labels(maps: NDArray[np.floating], keys: Sequence[int], threshold: float) -> NDArray[np.uint8]:
    background = np.full((1, *maps.shape[1:]), threshold, dtype=np.float32)
    stack = np.concatenate([background, maps.astype(np.float32)])
    return np.array([0, *keys], dtype=np.uint8)[stack.argmax(axis=0)]


def slow_confusion(prediction: NDArray[np.uint8], truth: NDArray[np.uint8], n_classes: int) -> NDArray[np.int64]:
    matrix = np.zeros((n_classes + 1, n_classes + 2), dtype=np.int64)
    for predicted, true in zip(prediction.ravel().tolist(), truth.ravel().tolist(), strict=True):
        if true != 255:
            matrix[true, n_classes + 1 if predicted == 255 else predicted] += 1
    return matrix
