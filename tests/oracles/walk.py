"""The random walk as published: a padded grid, a dense matrix, repeated squaring; in float64."""

import numpy as np
from numpy.typing import NDArray
from oracles.path_index import slow_paths


def dense_transition(edge: NDArray[np.floating], radius: int, beta: float) -> NDArray[np.float64]:
    h, w = edge.shape
    padded = np.pad(edge.astype(np.float64), ((0, radius), (radius, radius)), constant_values=1.0)
    width = w + 2 * radius
    affinity = np.eye(padded.size)
    for path in slow_paths(radius):
        dy, dx = max(path, key=lambda cell: abs(cell[0]) + abs(cell[1]))
        for y in range(padded.shape[0] - radius + 1):
            for x in range(radius - 1, width - radius + 1):
                value = 1 - max(padded[y + py, x + px] for py, px in path)
                source, destination = y * width + x, (y + dy) * width + x + dx
                affinity[source, destination] = affinity[destination, source] = value
    inside = np.zeros(padded.shape, dtype=bool)
    inside[:h, radius : radius + w] = True
    powers = affinity[np.ix_(inside.ravel(), inside.ravel())] ** beta
    return powers / powers.sum(axis=0)


def dense_walk(
    cam: NDArray[np.floating], edge: NDArray[np.floating], radius: int, beta: float, exp_times: int
) -> NDArray[np.float64]:
    matrix = dense_transition(edge, radius, beta)
    for _ in range(exp_times):
        matrix = matrix @ matrix
    start = cam.astype(np.float64) * (1 - edge.astype(np.float64))
    return (start.reshape(len(cam), -1) @ matrix).reshape(cam.shape)
