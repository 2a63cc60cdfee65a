"""The passes over the image of the CNN of `uss_fused`, each over one block: some rows of a strip of columns.

A batch normalisation needs the whole image before its first value is known. So a layer's plain values are stored, and
the next pass normalises and clips them while they are in the cache. Maps are float32 (H, C, W).
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pfit_ray.ops.regions.uss_kernels import FAST, STRIDE, Flat, convolve, convolve_gradient, mix, mix_gradient

Map = NDArray[np.float32]
Sums = NDArray[np.float32]
"""(H, strips, 2, C)."""


class Block(NamedTuple):
    """Rows `top` to `bottom` - 1 of the columns from `left` on, which are strip number `strip`."""

    top: int
    bottom: int
    left: int
    width: int
    strip: int


class Norm(NamedTuple):
    """A batch normalisation of plain values y; each field is float32 (C,).

    It gives `scale * y + shift`; before the layer's own scale and shift that is `(y - mean) * inverse`. From the
    gradient g of what it gives, that of y is `on_upper * g + on_value * y + constant`.
    """

    scale: NDArray[np.float32]
    shift: NDArray[np.float32]
    mean: NDArray[np.float32]
    inverse: NDArray[np.float32]
    on_upper: NDArray[np.float32]
    on_value: NDArray[np.float32]
    constant: NDArray[np.float32]


@njit(cache=True, nogil=True, fastmath=FAST)
def _clear_outside(tile: Flat, start: int, row: int, height: int, width: int, left: int, n: int, channels: int) -> bool:
    """Zero what lies beyond the image; whether anything of the row lies inside."""
    if row < 0 or row >= height:
        tile[start : start + channels * STRIDE] = 0
        return False
    for c in range(channels):
        if left < 0:
            tile[start + c * STRIDE] = 0
        if left + n > width:
            tile[start + c * STRIDE + n - 1] = 0
    return True


@njit(cache=True, nogil=True, fastmath=FAST)
def _load_values(tile: Flat, start: int, values: Map, row: int, left: int, n: int, norm: Norm) -> None:
    """A row's normalised and clipped values, from column `left` on, which may be -1; zeros beyond the image."""
    height, channels, width = values.shape
    if not _clear_outside(tile, start, row, height, width, left, n, channels):
        return
    first, last = max(left, 0), min(left + n, width)
    for c in range(channels):
        source = values[row, c, first:last]
        target = tile[start + c * STRIDE + first - left : start + c * STRIDE + last - left]
        scale, shift = norm.scale[c], norm.shift[c]
        for p in range(last - first):
            target[p] = max(scale * source[p] + shift, np.float32(0))


@njit(cache=True, nogil=True, fastmath=FAST)
def _load_gradient(tile: Flat, start: int, upper: Map, values: Map, row: int, left: int, n: int, norm: Norm) -> None:
    """A row's gradient of the plain values, from that of the normalised ones; zeros beyond the image."""
    height, channels, width = values.shape
    if not _clear_outside(tile, start, row, height, width, left, n, channels):
        return
    first, last = max(left, 0), min(left + n, width)
    for c in range(channels):
        above, source = upper[row, c, first:last], values[row, c, first:last]
        target = tile[start + c * STRIDE + first - left : start + c * STRIDE + last - left]
        a, b, constant = norm.on_upper[c], norm.on_value[c], norm.constant[c]
        for p in range(last - first):
            target[p] = a * above[p] + b * source[p] + constant


@njit(cache=True, nogil=True, fastmath=FAST)
def _store_values(values: Map, moments: Sums, tile: Flat, row: int, block: Block) -> None:
    """Store a row; its mean and its squared deviations from that go to `moments`."""
    for c in range(values.shape[1]):
        source = tile[c * STRIDE : c * STRIDE + block.width]
        target = values[row, c, block.left : block.left + block.width]
        total = np.float32(0)
        for p in range(block.width):
            target[p] = source[p]
            total += source[p]
        mean = total / np.float32(block.width)
        squares = np.float32(0)
        for p in range(block.width):
            squares += (source[p] - mean) * (source[p] - mean)
        moments[row, block.strip, 0, c] = mean
        moments[row, block.strip, 1, c] = squares


@njit(cache=True, nogil=True, fastmath=FAST)
def _store_gradient(
    upper: Map, sums: Sums, tile: Flat, start: int, values: Map, row: int, block: Block, norm: Norm, clipped: Flat
) -> None:
    """Store the gradient of a row's normalised values, and its sums: plain, and times those values."""
    for c in range(values.shape[1]):
        source = tile[c * STRIDE : c * STRIDE + block.width]
        target = upper[row, c, block.left : block.left + block.width]
        value = values[row, c, block.left : block.left + block.width]
        reached = clipped[start + c * STRIDE : start + c * STRIDE + block.width]
        mean, inverse = norm.mean[c], norm.inverse[c]
        total = product = np.float32(0)
        for p in range(block.width):
            g = source[p] if reached[p] > 0 else np.float32(0)
            target[p] = g
            total += g
            product += g * ((value[p] - mean) * inverse)
        sums[row, block.strip, 0, c] = total
        sums[row, block.strip, 1, c] = product


@njit(cache=True, nogil=True, fastmath=FAST)
def forward_mix(lower: Map, norm: Norm, weight: Flat, values: Map, moments: Sums, block: Block) -> None:
    """Second and fourth layer: 1x1 convolution of the clipped values of the layer below."""
    n_in, n_out = lower.shape[1], values.shape[1]
    tile, out = np.empty(n_in * STRIDE, np.float32), np.empty(n_out * STRIDE, np.float32)
    for row in range(block.top, block.bottom):
        _load_values(tile, 0, lower, row, block.left, block.width, norm)
        mix(out, tile, weight, n_out, n_in, block.width)
        _store_values(values, moments, out, row, block)


@njit(cache=True, nogil=True, fastmath=FAST)
def forward_convolve(lower: Map, norm: Norm, weight: Flat, values: Map, moments: Sums, block: Block) -> None:
    """First and third layer: 3x3 convolution of the image, or of the clipped values of the layer below."""
    n_in, n_out = lower.shape[1], values.shape[1]
    ring, out = np.empty(3 * n_in * STRIDE, np.float32), np.empty(n_out * STRIDE, np.float32)
    for row in range(block.top - 1, block.bottom + 1):
        _load_values(ring, (row + 3) % 3 * n_in * STRIDE, lower, row, block.left - 1, block.width + 2, norm)
        if row > block.top:
            convolve(out, ring, row - 1, weight, n_out, n_in, block.width)
            _store_values(values, moments, out, row - 1, block)


@njit(cache=True, nogil=True, fastmath=FAST)
def strongest_channel(values: Map, norm: Norm, labels: NDArray[np.uint8], block: Block) -> None:
    """Label each pixel with the channel whose normalised value is largest, the first of equal ones."""
    best = np.empty(block.width, np.float32)
    channel = np.empty(block.width, np.int32)
    for row in range(block.top, block.bottom):
        for c in range(values.shape[1]):
            source = values[row, c, block.left : block.left + block.width]
            scale, shift = norm.scale[c], norm.shift[c]
            for p in range(block.width):
                value = scale * source[p] + shift
                larger = c == 0 or value > best[p]
                best[p] = value if larger else best[p]
                channel[p] = c if larger else channel[p]
        for p in range(block.width):
            labels[row, block.left + p] = channel[p]


@njit(cache=True, nogil=True, fastmath=FAST)
def backward_vote(values: Map, norm: Norm, voted: NDArray[np.int64], upper: Map, sums: Sums, block: Block) -> None:
    """Gradient of the mean cross-entropy of the votes, with the sums that the batch normalisation asks for."""
    channels = values.shape[1]
    share = np.float32(1 / voted.size)
    tile = np.empty(channels * STRIDE, np.float32)
    everywhere = np.ones(channels * STRIDE, np.float32)
    largest, total = np.empty(block.width, np.float32), np.empty(block.width, np.float32)
    for row in range(block.top, block.bottom):
        largest[:] = -np.inf
        for c in range(channels):
            source = values[row, c, block.left : block.left + block.width]
            scaled = tile[c * STRIDE : c * STRIDE + block.width]
            for p in range(block.width):
                value = norm.scale[c] * source[p] + norm.shift[c]
                scaled[p] = value
                largest[p] = value if value > largest[p] else largest[p]
        total[:] = 0
        for c in range(channels):
            scaled = tile[c * STRIDE : c * STRIDE + block.width]
            for p in range(block.width):
                scaled[p] = np.exp(scaled[p] - largest[p])
                total[p] += scaled[p]
        for p in range(block.width):
            total[p] = share / total[p]
        for c in range(channels):
            scaled = tile[c * STRIDE : c * STRIDE + block.width]
            wanted = voted[row, block.left : block.left + block.width]
            for p in range(block.width):
                scaled[p] = scaled[p] * total[p] - (share if wanted[p] == c else np.float32(0))
        _store_gradient(upper, sums, tile, 0, values, row, block, norm, everywhere)


@njit(cache=True, nogil=True, fastmath=FAST)
def backward_mix(
    upper: Map,
    values: Map,
    norm: Norm,
    weight: Flat,
    lower: Map,
    lower_norm: Norm,
    lower_upper: Map,
    sums: Sums,
    gradient: Flat,
    block: Block,
) -> None:
    """Through a 1x1 convolution: the gradient of its weights, and that of the normalised values below."""
    n_in, n_out = lower.shape[1], values.shape[1]
    above, tile = np.empty(n_out * STRIDE, np.float32), np.empty(n_in * STRIDE, np.float32)
    below = np.empty(n_in * STRIDE, np.float32)
    for row in range(block.top, block.bottom):
        _load_gradient(above, 0, upper, values, row, block.left, block.width, norm)
        _load_values(tile, 0, lower, row, block.left, block.width, lower_norm)
        mix_gradient(gradient, above, tile, n_out, n_in, block.width)
        mix(below, above, weight, n_in, n_out, block.width)
        _store_gradient(lower_upper, sums, below, 0, lower, row, block, lower_norm, tile)


@njit(cache=True, nogil=True, fastmath=FAST)
def backward_convolve(
    upper: Map,
    values: Map,
    norm: Norm,
    weight: Flat,
    lower: Map,
    lower_norm: Norm,
    lower_upper: Map,
    sums: Sums,
    gradient: Flat,
    block: Block,
) -> None:
    """Through the 3x3 convolution of the third layer, whose weight is turned by half a turn, its sides exchanged."""
    n_in, n_out = lower.shape[1], values.shape[1]
    above, ring = np.empty(3 * n_out * STRIDE, np.float32), np.empty(3 * n_in * STRIDE, np.float32)
    below = np.empty(n_in * STRIDE, np.float32)
    for row in range(block.top - 1, block.bottom + 1):
        place, left, width = (row + 3) % 3, block.left - 1, block.width + 2
        _load_gradient(above, place * n_out * STRIDE, upper, values, row, left, width, norm)
        _load_values(ring, place * n_in * STRIDE, lower, row, left, width, lower_norm)
        if row > block.top:
            place = (row + 2) % 3
            start = place * n_out * STRIDE + 1  # its first column is one further left
            convolve_gradient(gradient, above, start, ring, row - 1, n_out, n_in, block.width)
            convolve(below, above, row - 1, weight, n_in, n_out, block.width)
            start = place * n_in * STRIDE + 1
            _store_gradient(lower_upper, sums, below, start, lower, row - 1, block, lower_norm, ring)


@njit(cache=True, nogil=True, fastmath=FAST)
def backward_image(
    upper: Map, values: Map, norm: Norm, image: Map, image_norm: Norm, gradient: Flat, block: Block
) -> None:
    """The gradient of the weights of the first layer; that of the image is not needed."""
    channels, hidden = image.shape[1], values.shape[1]
    above = np.empty(hidden * STRIDE, np.float32)
    ring = np.empty(3 * channels * STRIDE, np.float32)
    for row in range(block.top - 1, block.bottom + 1):
        _load_values(ring, (row + 3) % 3 * channels * STRIDE, image, row, block.left - 1, block.width + 2, image_norm)
        if row > block.top:
            _load_gradient(above, 0, upper, values, row - 1, block.left, block.width, norm)
            convolve_gradient(gradient, above, 0, ring, row - 1, hidden, channels, block.width)
