"""From class maps to labels: the background competes with the classes at a fixed value."""

import numpy as np
from numpy.typing import NDArray

from pfit_ray.constants import BACKGROUND


def strongest_class(class_maps: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """The largest class value of every pixel and which class has it.

    Args:
        class_maps: floats (K, H, W) of any K.

    Returns:
        (values, classes): float32 (H, W) and integers 1..K (H, W), ties to the lower class;
        without classes the values are -inf and the classes 0.
    """
    if len(class_maps) == 0:
        return np.full(class_maps.shape[1:], -np.inf, np.float32), np.zeros(class_maps.shape[1:], np.intp)
    highest = class_maps[0].copy()
    classes = np.ones(highest.shape, np.intp)
    for number, values in enumerate(class_maps[1:], start=2):  # ten times as fast as argmax over the first axis
        classes[values > highest] = number
        np.maximum(highest, values, out=highest)
    return highest.astype(np.float32, copy=False), classes


def threshold_classes(class_maps: NDArray[np.floating], threshold: float) -> NDArray[np.intp]:
    """Index of the winner at every pixel when the background has the value `threshold`.

    Args:
        class_maps: floats (K, H, W) of any K.
        threshold: value of the background; it is compared in float32 and wins ties.

    Returns:
        Integers (H, W): 0 = background, k = the k-th class (1-based).
    """
    values, classes = strongest_class(class_maps)
    return np.where(values > np.float32(threshold), classes, 0)


def label_ids(keys: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Class id of each winner index: background, then the keys; uint8 (K + 1,).

    Args:
        keys: ascending class ids (K,) in 1..254.
    """
    return np.array([BACKGROUND, *keys], dtype=np.uint8)
