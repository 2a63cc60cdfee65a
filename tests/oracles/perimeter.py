import numpy as np


def slow_perimeter_map(labels):
    height, width = labels.shape
    perimeter = np.zeros(labels.shape, dtype=bool)
    for y, x in np.ndindex(height, width):
        right = x + 1 < width and labels[y, x + 1] != labels[y, x]
        below = y + 1 < height and labels[y + 1, x] != labels[y, x]
        perimeter[y, x] = right or below
    return perimeter
