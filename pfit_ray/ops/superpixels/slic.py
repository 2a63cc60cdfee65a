"""SLIC: k-means of pixels in colour and space, where each centre looks at its own surroundings only.

The labels are those of scikit-image, bit for bit: the same operations on the same numbers in the same order. They work
on planes, so vector instructions compare whole rows with a centre.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray
from skimage.util import regular_grid

ITERATIONS = 10
"""Rounds of k-means, as scikit-image's default."""
_BLOCK = 8
"""Pixels of a row that share one bound of their distances."""
_NARROWINGS = 3
"""How often the stretch of a row that a centre may win is narrowed by the bounds in it."""
_HAIR = 1 + 1e-9
"""Factor that keeps a bound above what it bounds, whatever is rounded."""


@njit(cache=True, nogil=True)
def _compare(light, green, blue, first, ways, start, count, down, centre, weight, found, k, distances, nearest):  # type: ignore[no-untyped-def]
    """Give `count` pixels from `first` on to centre k where it is nearer than theirs.

    All arrays are flat and the places unsigned, so that both loops become vector instructions without views.
    """
    for i in range(count):
        t0, t1, t2 = light[first + i] - centre[2], green[first + i] - centre[3], blue[first + i] - centre[4]
        found[i] = (down + ways[start + i]) * weight + (t0 * t0 + t1 * t1 + t2 * t2)
    for i in range(count):
        pixel = first + i
        closer = found[i] < distances[pixel]
        distances[pixel] = found[i] if closer else distances[pixel]
        nearest[pixel] = k if closer else nearest[pixel]


@njit(cache=True, nogil=True)
def _window(place, reach, length):  # type: ignore[no-untyped-def]
    """First place that a centre looks at in one direction, and the place behind the last."""
    return int(max(place - 2 * reach, 0.0)), int(min(place + 2 * reach + 1, float(length)))


@njit(cache=True, nogil=True)
def _bound(planes, centres, sizes, reach, weight, distances, nearest):  # type: ignore[no-untyped-def]
    """Set `distances` in place a hair above those to the former centres, which bound those to the nearest ones.

    They are infinite where the window of the former centre does not hold the pixel any more.

    Returns:
        The largest bound of each `_BLOCK` pixels of a row: float64 (H, blocks).
    """
    _, height, width = planes.shape
    limits = np.zeros((height, (width - 1) // _BLOCK + 1))
    windows = np.zeros((sizes.size, 4), dtype=np.int64)
    for k in range(sizes.size):
        if sizes[k] > 0:
            # One by one: numba takes seconds to compile what fills a slice with an array.
            windows[k, 0], windows[k, 1] = _window(centres[k, 0], reach[0], height)
            windows[k, 2], windows[k, 3] = _window(centres[k, 1], reach[1], width)
    for row in range(height):
        for column in range(width):
            k = nearest[row, column]
            bound = np.inf
            if windows[k, 0] <= row < windows[k, 1] and windows[k, 2] <= column < windows[k, 3]:
                down, right = centres[k, 0] - row, centres[k, 1] - column
                t0 = planes[0, row, column] - centres[k, 2]
                t1 = planes[1, row, column] - centres[k, 3]
                t2 = planes[2, row, column] - centres[k, 4]
                bound = ((down * down + right * right) * weight + t0 * t0 + t1 * t1 + t2 * t2) * _HAIR + 1e-300
            distances[row, column] = bound
            limits[row, column // _BLOCK] = max(limits[row, column // _BLOCK], bound)
    return limits


@njit(cache=True, nogil=True)
def _assign(planes, centres, sizes, reach, weight, distances, nearest):  # type: ignore[no-untyped-def]
    """Give each pixel, in place, to the nearest centre whose window holds it, or to the first of equally near ones.

    Pixels of a window that are too far away in space alone are skipped.
    """
    _, height, width = planes.shape
    limits = _bound(planes, centres, sizes, reach, weight, distances, nearest)
    light, green, blue = planes[0].ravel(), planes[1].ravel(), planes[2].ravel()
    flat_distances, flat_nearest = distances.ravel(), nearest.ravel()
    ways, found = np.empty(width), np.empty(width)
    for k in range(centres.shape[0]):
        if sizes[k] == 0:
            continue
        y, x = centres[k, 0], centres[k, 1]
        centre = (y, x, centres[k, 2], centres[k, 3], centres[k, 4])
        top, bottom = _window(y, reach[0], height)
        left, right = _window(x, reach[1], width)
        for column in range(left, right):
            ways[column] = (x - column) ** 2
        for row in range(top, bottom):
            down = (y - row) ** 2
            start, stop = left, right
            for _ in range(_NARROWINGS):
                limit = 0.0
                for block in range(start // _BLOCK, (stop - 1) // _BLOCK + 1):
                    limit = max(limit, limits[row, block])
                room = limit / weight * _HAIR - down
                side = min(np.sqrt(max(room, 0.0)), float(width)) + 1
                start, stop = max(start, int(x - side)), min(stop, int(x + side) + 1)
                if room < 0 or start >= stop:
                    stop = start
                    break
            if start >= stop:
                continue
            first, count = np.uint64(row * width + start), np.uint64(stop - start)
            _compare(
                light,
                green,
                blue,
                first,
                ways,
                np.uint64(start),
                count,
                down,
                centre,
                weight,
                found,
                k,
                flat_distances,
                flat_nearest,
            )


@njit(cache=True, nogil=True)
def _move_centres(planes, nearest, centres, sizes):  # type: ignore[no-untyped-def]
    """Move each centre to the mean of its pixels, in place. A centre without pixels is left out from then on."""
    _, height, width = planes.shape
    centres[:] = 0
    sizes[:] = 0
    for row in range(height):
        for column in range(width):
            k = nearest[row, column]
            sizes[k] += 1
            centres[k, 0] += row
            centres[k, 1] += column
            for channel in range(3):
                centres[k, 2 + channel] += planes[channel, row, column]
    for k in range(sizes.size):
        if sizes[k] > 0:
            for value in range(centres.shape[1]):
                centres[k, value] /= sizes[k]


@njit(cache=True, nogil=True)
def _connect(nearest, min_size, max_size):  # type: ignore[no-untyped-def]
    """Number the connected components of the clusters from 1 in reading order.

    A component below `min_size` pixels joins a neighbour: the last one that its breadth-first search has met. A
    component is cut off at `max_size`.
    """
    height, width = nearest.shape
    labels = np.zeros((height, width), dtype=np.int32)
    rows, columns = np.empty(max_size, dtype=np.int64), np.empty(max_size, dtype=np.int64)
    label = 1
    for row in range(height):
        for column in range(width):
            if labels[row, column] > 0:
                continue
            cluster, neighbour = nearest[row, column], label
            labels[row, column] = label
            rows[0], columns[0] = row, column
            size, visited = 1, 0
            while visited < size < max_size:
                for side in range(4):
                    y = rows[visited] + (side == 2) - (side == 3)
                    x = columns[visited] + (side == 0) - (side == 1)
                    if y < 0 or x < 0 or y >= height or x >= width:
                        continue
                    there = labels[y, x]
                    if there == 0 and nearest[y, x] == cluster:
                        labels[y, x] = label
                        rows[size], columns[size] = y, x
                        size += 1
                        if size >= max_size:
                            break
                    elif there > 0 and there != label:
                        neighbour = there
                visited += 1
            if size < min_size:
                for i in range(size):
                    labels[rows[i], columns[i]] = neighbour
            else:
                label += 1
    return labels


def slic(features: NDArray[np.float64], *, n_segments: int) -> NDArray[np.int32]:
    """SLIC superpixels (Achanta et al. 2012) of pixels with three features each.

    The squared distance of a pixel to a centre is that of their features, plus that of their places in units of the
    grid of the first centres.

    Args:
        features: float64 (H, W, 3), such as smoothed Lab colours over the compactness. Finite.
        n_segments: approximate number of superpixels, at least 1.

    Returns:
        int32 (H, W), labels from 1.

    Raises:
        ValueError: when the features are not (H, W, 3).
    """
    if features.ndim != 3 or features.shape[2] != 3:
        raise ValueError(f"features must be (H, W, 3), not {features.shape}")
    planes = np.ascontiguousarray(np.moveaxis(features, 2, 0), dtype=np.float64)
    volume = (1, *features.shape[:2])
    grid = regular_grid(volume, n_segments)
    places = np.indices(volume)[(slice(None), *grid)].reshape(3, -1).T[:, 1:]
    centres = np.concatenate([places, np.zeros((len(places), 3))], axis=1)
    # The windows follow the grid of the centres that there are, the weight of space that of those asked for. Its
    # square is a float32 in scikit-image.
    reach = np.array(_steps(regular_grid(volume, len(centres)))[1:], dtype=np.float64)
    step = np.float32(max(_steps(grid)))
    weight = 1.0 / float(step * step)
    sizes = np.ones(len(centres), dtype=np.int64)
    distances = np.empty(volume[1:])
    nearest = np.zeros(volume[1:], dtype=np.int64)
    for _ in range(ITERATIONS):
        _assign(planes, centres, sizes, reach, weight, distances, nearest)
        _move_centres(planes, nearest, centres, sizes)
    size = nearest.size / len(centres)
    labels: NDArray[np.int32] = _connect(nearest, int(0.5 * size), int(3 * size))
    return labels


def _steps(grid: tuple[slice, ...]) -> list[int]:
    return [1 if side.step is None else int(side.step) for side in grid]
