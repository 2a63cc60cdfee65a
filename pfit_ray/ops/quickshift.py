"""Quickshift superpixels in compiled code, label for label those of scikit-image."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray
from skimage.color import rgb2lab

TIE_NOISE = 1e-5
"""Standard deviation of the noise that breaks ties between densities."""

_LOG2_E = 1.4426950408889634
_LN2_HIGH = 0.693145751953125
_LN2_LOW = 1.4286068203094172554e-06
_ROUND = 6755399441055744.0
"""1.5 * 2^52: added to a small number it leaves the nearest integer in the lowest bits."""
_SMALLEST = -60.0
"""exp of less adds nothing to a density, which is at least 1."""
_COEFFICIENTS = np.array([1.0 / math.factorial(n) for n in range(13, -1, -1)])


def quickshift(
    image: NDArray[np.uint8], *, kernel_size: float, max_dist: float, ratio: float, seed: int
) -> NDArray[np.int32]:
    """Quickshift segmentation (Vedaldi and Soatto, ECCV 2008), as `skimage.segmentation.quickshift` computes it.

    The density of a pixel is the sum of Gaussian weights of its neighbours in colour and place. Each pixel is linked
    to the nearest denser one; links longer than `max_dist` are cut, and each tree that is left is one superpixel.

    Each pair's weight is computed once, and the nearest denser pixel is looked for from near to far. Densities can
    differ from scikit-image's in the last digits; the noise that breaks ties is a billion times larger.

    Args:
        image: uint8 (H, W, 3); the channels are taken for RGB.
        kernel_size: width of the density's Gaussian, pixels, at least 1.
        max_dist: longest link that is kept, in the space of colours (times `ratio`) and pixels.
        ratio: weight of Lab colour against place, 0 to 1.
        seed: seed of the noise that breaks ties.

    Returns:
        int32 (H, W), labels from 0, ordered by the place of each tree's root.

    Raises:
        ValueError: when `kernel_size` is below 1.
    """
    if kernel_size < 1:
        raise ValueError(f"kernel_size is {kernel_size}, must be at least 1")
    colours = np.ascontiguousarray(rgb2lab(image) * ratio)
    reach = math.ceil(3 * kernel_size)
    density = _density(np.moveaxis(colours, -1, 0).copy(), reach, -0.5 / (kernel_size * kernel_size))
    density += np.random.default_rng(seed).normal(scale=TIE_NOISE, size=density.shape)
    labels: NDArray[np.int32] = _trees(_parents(colours, density, _near_to_far(reach, max_dist), float(max_dist)))
    return labels


def _near_to_far(reach: int, max_dist: float) -> NDArray[np.int64]:
    """Offsets (dy, dx) within the window that may be linked, the nearest first, equally near ones in reading order."""
    span = np.arange(-reach, reach + 1)
    offsets = np.stack(np.meshgrid(span, span, indexing="ij"), axis=-1).reshape(-1, 2)
    squares = (offsets**2).sum(axis=1)
    order = np.argsort(squares, kind="stable")
    return offsets[order[np.sqrt(squares[order]) <= max_dist][1:]]  # the first one is the pixel itself


@njit(cache=True, nogil=True, fastmath={"contract"})
def _density(colours: NDArray[np.float64], reach: int, scale: float) -> NDArray[np.float64]:
    """Sum of exp(scale * squared distance) over the window, the pixel itself included; colours are (3, H, W)."""
    _, height, width = colours.shape
    density = np.ones((height, width))  # each pixel's own weight
    rounded = np.empty(width)
    power = rounded.view(np.int64)
    rest = np.empty(width)
    for y in range(height):
        for dy in range(min(reach, height - 1 - y) + 1):
            for dx in range(-reach if dy else 1, reach + 1):
                left, right = max(0, -dx), min(width, width - dx)
                count = right - left
                if count <= 0:
                    continue
                l0, a0, b0 = colours[0, y, left:right], colours[1, y, left:right], colours[2, y, left:right]
                there = slice(left + dx, right + dx)
                l1, a1, b1 = colours[0, y + dy, there], colours[1, y + dy, there], colours[2, y + dy, there]
                place = dy * dy + dx * dx
                for i in range(count):
                    step_l, step_a, step_b = l0[i] - l1[i], a0[i] - a1[i], b0[i] - b1[i]
                    distance = step_l * step_l + step_a * step_a + step_b * step_b + place
                    exponent = max(distance * scale, _SMALLEST)
                    shifted = exponent * _LOG2_E + _ROUND
                    rounded[i] = shifted
                    whole = shifted - _ROUND
                    rest[i] = (exponent - whole * _LN2_HIGH) - whole * _LN2_LOW
                for i in range(count):
                    power[i] = (power[i] + 1023) << 52  # 2^whole, by its bits
                mine, other = density[y, left:right], density[y + dy, there]
                for i in range(count):
                    series = _COEFFICIENTS[0]
                    for n in range(1, 14):
                        series = series * rest[i] + _COEFFICIENTS[n]
                    rest[i] = series * rounded[i]
                for i in range(count):
                    mine[i] += rest[i]
                for i in range(count):
                    other[i] += rest[i]
    return density


@njit(cache=True, nogil=True)
def _parents(
    colours: NDArray[np.float64], density: NDArray[np.float64], offsets: NDArray[np.int64], max_dist: float
) -> NDArray[np.int64]:
    """Flat index of the nearest denser pixel within `max_dist`, or of the pixel itself; colours are (H, W, 3)."""
    height, width, _ = colours.shape
    parents = np.empty(height * width, np.int64)
    for y in range(height):
        for x in range(width):
            here = y * width + x
            parent, nearest = here, np.inf
            for n in range(len(offsets)):
                dy, dx = offsets[n]
                if dy * dy + dx * dx > nearest:
                    break
                row, column = y + dy, x + dx
                if row < 0 or row >= height or column < 0 or column >= width:
                    continue
                if density[row, column] <= density[y, x]:
                    continue
                distance = 0.0
                for channel in range(3):
                    step = colours[y, x, channel] - colours[row, column, channel]
                    distance += step * step
                distance += float(dy * dy)
                distance += float(dx * dx)
                there = row * width + column
                if distance < nearest or (distance == nearest and there < parent):
                    parent, nearest = there, distance
            parents[here] = parent if np.sqrt(nearest) <= max_dist else here
    return parents.reshape(height, width)


@njit(cache=True, nogil=True)
def _trees(parents: NDArray[np.int64]) -> NDArray[np.int32]:
    """Number the trees by the place of their roots."""
    flat = parents.ravel()
    labels = np.empty(flat.size, np.int32)
    found = 0
    for pixel in range(flat.size):
        if flat[pixel] == pixel:
            labels[pixel] = found
            found += 1
    for pixel in range(flat.size):
        root = pixel
        while flat[root] != root:
            root = flat[root]
        step = pixel
        while flat[step] != root:  # later walks along this branch are short
            flat[step], step = root, flat[step]
        labels[pixel] = labels[root]
    return labels.reshape(parents.shape)
