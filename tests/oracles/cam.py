import numpy as np


def slow_resize(maps, height, width):
    """Bilinear interpolation between pixel centres, one output value at a time, in float64."""
    n_classes, rows, columns = maps.shape
    resized = np.zeros((n_classes, height, width))
    for y, x in np.ndindex(height, width):
        top = min(max((y + 0.5) * rows / height - 0.5, 0), rows - 1)
        left = min(max((x + 0.5) * columns / width - 0.5, 0), columns - 1)
        y0, x0 = int(top), int(left)
        y1, x1 = min(y0 + 1, rows - 1), min(x0 + 1, columns - 1)
        dy, dx = top - y0, left - x0
        upper = maps[:, y0, x0] * (1 - dx) + maps[:, y0, x1] * dx
        lower = maps[:, y1, x0] * (1 - dx) + maps[:, y1, x1] * dx
        resized[:, y, x] = upper * (1 - dy) + lower * dy
    return resized
