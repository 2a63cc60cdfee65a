"""Perimeter map: where one region ends and another begins."""

import numpy as np
from numpy.typing import NDArray


def perimeter_map(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Mark the pixels whose right or lower neighbour has another label.

    The line is one pixel wide and lies on the left or upper side of each border.

    Args:
        labels: integers (H, W).

    Returns:
        bool (H, W).
    """
    perimeter = np.zeros(labels.shape, dtype=bool)
    perimeter[:, :-1] = labels[:, 1:] != labels[:, :-1]
    perimeter[:-1] |= labels[1:] != labels[:-1]
    return perimeter
