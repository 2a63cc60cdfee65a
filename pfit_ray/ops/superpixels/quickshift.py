"""Quickshift: every pixel is linked to the nearest denser pixel, and each tree of links is one superpixel.

The labels are those of scikit-image, bit for bit. scikit-image adds up the density of each pixel term by term. Here the
sums are approximate and fast, with a known bound of their error. Where two densities are closer than the bound, both
are computed again in scikit-image's own order, so no comparison can come out differently.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

_LOG2_E = 1 / math.log(2)
_SMALLEST_POWER = -60.0
"""Weights below 2 to this power are taken for it; that is far below the error bound."""
_ROUND = 1.5 * 2.0**52
"""A number added to this is rounded to an integer, which then fills the low bits of the sum."""
_EXPONENT = np.int64(52)
"""Where the exponent begins in a float64."""
_SERIES = tuple(math.log(2) ** k / math.factorial(k) for k in range(11))
"""Series of 2 ** x, exact to 3e-13 for -0.5 <= x <= 0.5."""


@njit(cache=True, nogil=True, fastmath={"contract"})
def _row_weights(first, second, space, factor, weights):  # type: ignore[no-untyped-def]
    """Kernel weights 2 ** (factor * distance²) between the pixels of two stretches of rows.

    All arrays are contiguous, so that the loop becomes vector instructions.
    """
    light, green, blue = first
    other_light, other_green, other_blue = second
    for i in range(weights.size):
        t0 = light[i] - other_light[i]
        t1 = green[i] - other_green[i]
        t2 = blue[i] - other_blue[i]
        power = max((t0 * t0 + t1 * t1 + t2 * t2 + space) * factor, _SMALLEST_POWER)
        shifted = power + _ROUND
        x = power - (shifted - _ROUND)
        series = _SERIES[10]
        series = series * x + _SERIES[9]
        series = series * x + _SERIES[8]
        series = series * x + _SERIES[7]
        series = series * x + _SERIES[6]
        series = series * x + _SERIES[5]
        series = series * x + _SERIES[4]
        series = series * x + _SERIES[3]
        series = series * x + _SERIES[2]
        series = series * x + _SERIES[1]
        series = series * x + _SERIES[0]
        bits = np.float64(series).view(np.int64) + (np.float64(shifted).view(np.int64) << _EXPONENT)
        weights[i] = np.int64(bits).view(np.float64)


@njit(cache=True, nogil=True)
def _add(total, weights):  # type: ignore[no-untyped-def]
    for i in range(weights.size):
        total[i] += weights[i]


@njit(cache=True, nogil=True)
def _stretch(planes, row, start, stop):  # type: ignore[no-untyped-def]
    """The three features of a stretch of one row."""
    return planes[0, row][start:stop], planes[1, row][start:stop], planes[2, row][start:stop]


@njit(cache=True, nogil=True)
def _densities(planes, radius, factor):  # type: ignore[no-untyped-def]
    """Approximate densities (H, W) of planes (3, H, W); each pair of pixels is weighed once."""
    _, height, width = planes.shape
    densities = np.ones((height, width))
    buffer = np.empty(width)
    for row in range(height):
        for other in range(row, min(row + radius + 1, height)):
            down = other - row
            for right in range(1 if down == 0 else -radius, radius + 1):
                start, stop = max(-right, 0), min(width - right, width)
                if start >= stop:
                    continue
                weights = buffer[: stop - start]
                here = _stretch(planes, row, start, stop)
                there = _stretch(planes, other, start + right, stop + right)
                _row_weights(here, there, float(down * down + right * right), factor, weights)
                _add(densities[row][start:stop], weights)
                _add(densities[other][start + right : stop + right], weights)
    return densities


@njit(cache=True, nogil=True)
def _exact_density(planes, noise, row, column, radius, factor):  # type: ignore[no-untyped-def]
    """Density of one pixel, with the operations of scikit-image in their order: the noise comes first."""
    _, height, width = planes.shape
    density = noise[row, column]
    for y in range(max(row - radius, 0), min(row + radius + 1, height)):
        for x in range(max(column - radius, 0), min(column + radius + 1, width)):
            density += math.exp(_distance(planes, row, column, y, x) * factor)
    return density


@njit(cache=True, nogil=True)
def _distance(planes, row, column, y, x):  # type: ignore[no-untyped-def]
    """Squared distance of two pixels in colour and space."""
    light = planes[0, row, column] - planes[0, y, x]
    green = planes[1, row, column] - planes[1, y, x]
    blue = planes[2, row, column] - planes[2, y, x]
    down, right = float(row - y), float(column - x)
    return light * light + green * green + blue * blue + down * down + right * right


@njit(cache=True, nogil=True)
def _parents(planes, densities, noise, offsets, max_dist, radius, factor, tolerance):  # type: ignore[no-untyped-def]
    """Flat index of the nearest denser pixel within `max_dist`, or of the pixel itself: int64 (H * W,).

    `offsets` (N, 2) lie in the order of their length, so the search ends once the way alone is longer than the
    best distance. Of several nearest pixels the first in reading order is taken. `densities` are made exact where
    two are closer than `tolerance`.
    """
    _, height, width = planes.shape
    parents = np.arange(height * width)
    exact = np.zeros((height, width), dtype=np.bool_)
    for row in range(height):
        for column in range(width):
            closest = np.inf
            parent = row * width + column
            for k in range(offsets.shape[0]):
                down, right = offsets[k, 0], offsets[k, 1]
                if float(down * down + right * right) > closest:
                    break
                y, x = row + down, column + right
                if y < 0 or x < 0 or y >= height or x >= width:
                    continue
                higher = densities[y, x] - densities[row, column]
                if higher < -tolerance:
                    continue
                distance = _distance(planes, row, column, y, x)
                if distance > closest or (distance == closest and y * width + x > parent):
                    continue
                if higher <= tolerance:
                    if not exact[row, column]:
                        densities[row, column] = _exact_density(planes, noise, row, column, radius, factor)
                        exact[row, column] = True
                    if not exact[y, x]:
                        densities[y, x] = _exact_density(planes, noise, y, x, radius, factor)
                        exact[y, x] = True
                    if densities[y, x] <= densities[row, column]:
                        continue
                closest = distance
                parent = y * width + x
            if math.sqrt(closest) <= max_dist:
                parents[row * width + column] = parent
    return parents


@njit(cache=True, nogil=True)
def _number_trees(parents):  # type: ignore[no-untyped-def]
    """Labels (N,) of the trees, in the order of their roots; `parents` (N,) become the roots in place."""
    labels = np.empty(parents.size, dtype=np.int32)
    count = 0
    for pixel in range(parents.size):
        root = parents[pixel]
        while parents[root] != root:
            root = parents[root]
        here = pixel
        while parents[here] != root:
            above = parents[here]
            parents[here] = root
            here = above
        if root == pixel:
            labels[pixel] = count
            count += 1
    for pixel in range(parents.size):
        labels[pixel] = labels[parents[pixel]]
    return labels


def quickshift(features: NDArray[np.float64], *, kernel_size: float, max_dist: float, seed: int) -> NDArray[np.int32]:
    """Quickshift superpixels (Vedaldi and Soatto 2008) of pixels with three features each.

    The density of a pixel is the sum of exp(-distance² / (2 kernel_size²)) over the pixels in a window that reaches
    three kernel sizes to each side, where the distance counts features and place alike. A little noise breaks ties.
    The parent of a pixel is the nearest denser pixel of the window.

    Args:
        features: float64 (H, W, 3), such as Lab colours times their weight against space. Finite.
        kernel_size: width of the Gaussian kernel, in pixels, at least 1.
        max_dist: links that are longer are cut.
        seed: seed of the noise.

    Returns:
        int32 (H, W), labels from 0 in the order of the trees' roots.

    Raises:
        ValueError: when the features are not (H, W, 3), or `kernel_size` is below 1.
    """
    if features.ndim != 3 or features.shape[2] != 3:
        raise ValueError(f"features must be (H, W, 3), not {features.shape}")
    if kernel_size < 1:
        raise ValueError(f"kernel_size must be at least 1, not {kernel_size}")
    planes = np.ascontiguousarray(np.moveaxis(features, 2, 0), dtype=np.float64)
    shape = features.shape[:2]
    radius = math.ceil(3 * kernel_size)
    factor = -0.5 / (kernel_size * kernel_size)
    noise = np.random.default_rng(seed).normal(scale=1e-5, size=shape)
    densities = _densities(planes, radius, factor * _LOG2_E) + noise
    terms = (2 * radius + 1) ** 2
    # Twice the error of one density: 3e-13 of each weight, and the rounding of two sums in different orders.
    tolerance = terms * (1e-12 + 1e-15 * terms)
    offsets = _offsets(radius, max_dist)
    parents = _parents(planes, densities, noise, offsets, float(max_dist), radius, factor, tolerance)
    labels: NDArray[np.int32] = _number_trees(parents).reshape(shape)
    return labels


def _offsets(radius: int, max_dist: float) -> NDArray[np.int64]:
    """Ways (down, right) from a pixel to the others of its window that are no longer than `max_dist`, short first."""
    side = np.arange(-radius, radius + 1)
    offsets = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    length = np.sqrt((offsets**2).sum(axis=1))
    order = length.argsort(kind="stable")
    return np.ascontiguousarray(offsets[order][(length[order] > 0) & (length[order] <= max_dist)])
