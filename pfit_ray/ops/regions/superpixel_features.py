"""Mean features of superpixels, straight from a network's strided maps."""

from collections.abc import Sequence

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

_SMALLEST = 1e-6


def superpixel_features(
    image: NDArray[np.uint8],
    superpixels: NDArray[np.integer],
    levels: Sequence[NDArray[np.floating]],
    weights: Sequence[float],
) -> NDArray[np.float32]:
    """Features of each superpixel: the means of its colour and of a network's maps.

    Each map is centred, divided by its root mean square over the image, and multiplied by its weight. So all maps weigh
    the same, whatever their channels and range.

    Args:
        image: uint8 RGB (H, W, 3).
        superpixels: integers (H, W), 0..n-1, all of them present.
        levels: float (C, h, w) maps that cover the image, each of its own channels and stride.
        weights: of colour (CIE Lab), then of each level, 0 or larger; a weight of 0 leaves a map out.

    Returns:
        float32 (n, D).

    Raises:
        ValueError: when there are not as many weights as maps, or all are 0.
    """
    if len(weights) != 1 + len(levels):
        raise ValueError(f"{len(weights)} weights are given for colour and {len(levels)} level(s)")
    if not any(weights):
        raise ValueError("all weights are 0, which leaves no feature")
    count = int(superpixels.max()) + 1 if superpixels.size else 0
    order, starts = pixels_by_superpixel(superpixels, count)
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    found = []
    for weight, one in zip(weights, (lab.transpose(2, 0, 1), *levels), strict=True):
        if weight:
            cells = np.ascontiguousarray(one.reshape(len(one), -1).T, dtype=np.float32)
            means = _means(cells, one.shape[1:], superpixels.shape, order, starts)
            middle = cells.mean(axis=0, dtype=np.float64)
            spread = np.sqrt(np.square(cells - middle).sum(axis=1).mean())
            found.append(weight * (means - middle) / (spread + _SMALLEST))
    return np.concatenate(found, axis=1).astype(np.float32)


def pixels_by_superpixel(superpixels: NDArray[np.integer], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Flat places of the pixels, superpixel by superpixel, and where each superpixel's begin, (count + 1,)."""
    flat = superpixels.ravel()
    small = flat.astype(np.uint16) if count <= 1 << 16 else flat
    starts = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(flat, minlength=count), out=starts[1:])
    return np.argsort(small, kind="stable"), starts


def _means(
    cells: NDArray[np.float32],
    grid: tuple[int, ...],
    size: tuple[int, ...],
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Means (n, C) over superpixels of a map (h * w, C) of a grid (h, w) that is bilinearly resized to (H, W)."""
    rows, columns = (_taps(there, pixels) for there, pixels in zip(grid, size, strict=True))
    means: NDArray[np.float64] = _weighted_means(cells, grid[1], size[1], *rows, *columns, order, starts)
    return means


def _taps(cells: int, pixels: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The two cells between which each pixel's centre lies, and the share of the second, as torch's bilinear resize."""
    centre = np.maximum((np.arange(pixels) + 0.5) * (cells / pixels) - 0.5, 0.0)
    lower = np.minimum(centre.astype(np.int64), cells - 1)
    return lower, np.minimum(lower + 1, cells - 1), centre - lower


@njit(cache=True, nogil=True)
def _weighted_means(
    cells: NDArray[np.float32],
    map_width: int,
    width: int,
    top: NDArray[np.int64],
    bottom: NDArray[np.int64],
    down: NDArray[np.float64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    across: NDArray[np.float64],
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Adds up what each cell weighs in a superpixel before it touches the cells' channels."""
    count, channels = len(starts) - 1, cells.shape[1]
    means = np.zeros((count, channels))
    weight = np.zeros(len(cells))
    touched = np.empty(len(cells), dtype=np.int64)
    for superpixel in range(count):
        found = 0
        for place in range(starts[superpixel], starts[superpixel + 1]):
            y, x = order[place] // width, order[place] % width
            for row, share in ((top[y], 1.0 - down[y]), (bottom[y], down[y])):
                for column, part in ((left[x], 1.0 - across[x]), (right[x], across[x])):
                    cell = row * map_width + column
                    if share * part > 0.0:
                        if weight[cell] == 0.0:
                            touched[found] = cell
                            found += 1
                        weight[cell] += share * part
        size = starts[superpixel + 1] - starts[superpixel]
        for index in range(found):
            cell = touched[index]
            share = weight[cell] / size
            weight[cell] = 0.0
            for channel in range(channels):
                means[superpixel, channel] += share * cells[cell, channel]
    return means
