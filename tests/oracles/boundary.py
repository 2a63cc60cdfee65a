"""The band of a mask pixel by pixel."""

import numpy as np
from numpy.typing import NDArray


def slow_band(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    height, columns = mask.shape
    band = np.zeros_like(mask)
    for row in range(height):
        for column in range(columns):
            near = [
                0 <= y < height and 0 <= x < columns and mask[y, x]
                for y in range(row - width, row + width + 1)
                for x in range(column - width, column + width + 1)
            ]
            band[row, column] = mask[row, column] and not all(near)
    return band
