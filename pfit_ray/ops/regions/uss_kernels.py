"""Convolutions and their gradients on one tile, a stretch of an image row, for the CNN of `uss_fused`.

A tile is a flat float32 array in which channel c starts at c * STRIDE; a ring is three consecutive tiles. The distance
between channels is known at compile time, and offsets are unsigned, so they never count from the end. Only then are the
loops over pixels compiled to vector instructions. Several output channels share a loop, because each value that is read
then serves several of them.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

TILE = 256
"""Largest width of a tile: three rows of 64 channels stay in the second-level cache."""
STRIDE = TILE + 8
"""Room for one more column on either side; no power of two, which would map all channels to the same cache lines."""
FAST = {"contract", "reassoc", "nsz"}
"""Sums may be split over the lanes of a vector; how is fixed when this is compiled."""

ONE, TWO = np.uint64(1), np.uint64(2)
NEXT = np.uint64(STRIDE)
ZERO = np.float32(0)

Flat = NDArray[np.float32]


@njit(cache=True, nogil=True, fastmath=FAST)
def mix(out: Flat, tile: Flat, weight: Flat, n_out: int, n_in: int, width: int) -> None:
    """Set `out[o]` to the sum over k of `weight[o, k] * tile[k]`: a 1x1 convolution.

    Args:
        out: tile of n_out channels.
        tile: tile of n_in channels.
        weight: (n_out, n_in), flat.
        n_out: even.
        n_in: a multiple of 4.
        width: pixels of the tile, at most TILE.
    """
    n = np.uint64(width)
    for o in range(0, n_out, 2):
        a0 = np.uint64(o * STRIDE)
        a1 = a0 + NEXT
        for p in range(n):
            out[a0 + p] = ZERO
            out[a1 + p] = ZERO
        for k in range(0, n_in, 4):
            b0 = np.uint64(k * STRIDE)
            b1 = b0 + NEXT
            b2 = b1 + NEXT
            b3 = b2 + NEXT
            i, j = o * n_in + k, (o + 1) * n_in + k
            u0, u1, u2, u3 = weight[i], weight[i + 1], weight[i + 2], weight[i + 3]
            v0, v1, v2, v3 = weight[j], weight[j + 1], weight[j + 2], weight[j + 3]
            for p in range(n):
                x0, x1, x2, x3 = tile[b0 + p], tile[b1 + p], tile[b2 + p], tile[b3 + p]
                out[a0 + p] += u0 * x0 + u1 * x1 + u2 * x2 + u3 * x3
                out[a1 + p] += v0 * x0 + v1 * x1 + v2 * x2 + v3 * x3


@njit(cache=True, nogil=True, fastmath=FAST)
def mix_gradient(gradient: Flat, upper: Flat, tile: Flat, n_out: int, n_in: int, width: int) -> None:
    """Add to `gradient[o, k]` the sum over the pixels of `upper[o] * tile[k]`: what `mix` hands to its weights.

    Args:
        gradient: (n_out, n_in), flat.
        upper: tile of n_out channels, the gradient of `out`.
        tile: tile of n_in channels.
        n_out: a multiple of 4.
        n_in: even.
        width: pixels of the tile, at most TILE.
    """
    n = np.uint64(width)
    for o in range(0, n_out, 4):
        a0 = np.uint64(o * STRIDE)
        a1 = a0 + NEXT
        a2 = a1 + NEXT
        a3 = a2 + NEXT
        for k in range(0, n_in, 2):
            b0 = np.uint64(k * STRIDE)
            b1 = b0 + NEXT
            s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = ZERO
            for p in range(n):
                x, y = tile[b0 + p], tile[b1 + p]
                g0, g1, g2, g3 = upper[a0 + p], upper[a1 + p], upper[a2 + p], upper[a3 + p]
                s0 += g0 * x
                t0 += g0 * y
                s1 += g1 * x
                t1 += g1 * y
                s2 += g2 * x
                t2 += g2 * y
                s3 += g3 * x
                t3 += g3 * y
            i = o * n_in + k
            for s, t in ((s0, t0), (s1, t1), (s2, t2), (s3, t3)):
                gradient[i] += s
                gradient[i + 1] += t
                i += n_in


@njit(cache=True, nogil=True, fastmath=FAST)
def convolve(out: Flat, ring: Flat, row: int, weight: Flat, n_out: int, n_in: int, width: int) -> None:
    """Set `out` to the 3x3 convolution of a row with the rows above and below it.

    Args:
        out: tile of n_out channels.
        ring: row r lies in its place r % 3, n_in channels wide, and begins one column left of `out`.
        row: the row.
        weight: (n_out, 3 rows, n_in, 3 columns), flat.
        n_out: even.
        n_in: any number.
        width: pixels of `out`, at most TILE.
    """
    n = np.uint64(width)
    for o in range(0, n_out, 2):
        a0 = np.uint64(o * STRIDE)
        a1 = a0 + NEXT
        for p in range(n):
            out[a0 + p] = ZERO
            out[a1 + p] = ZERO
        for step in range(3):
            place = (row + step + 2) % 3 * n_in * STRIDE
            for k in range(n_in):
                b = np.uint64(place + k * STRIDE)
                i, j = ((o * 3 + step) * n_in + k) * 3, ((o * 3 + 3 + step) * n_in + k) * 3
                u0, u1, u2 = weight[i], weight[i + 1], weight[i + 2]
                v0, v1, v2 = weight[j], weight[j + 1], weight[j + 2]
                for p in range(n):
                    x, y, z = ring[b + p], ring[b + p + ONE], ring[b + p + TWO]
                    out[a0 + p] += u0 * x + u1 * y + u2 * z
                    out[a1 + p] += v0 * x + v1 * y + v2 * z


@njit(cache=True, nogil=True, fastmath=FAST)
def convolve_gradient(
    gradient: Flat, upper: Flat, start: int, ring: Flat, row: int, n_out: int, n_in: int, width: int
) -> None:
    """Add to `gradient` what `convolve` hands to its weights.

    Args:
        gradient: (n_out, 3 rows, n_in, 3 columns), flat.
        upper: holds a tile of n_out channels, the gradient of `out`.
        start: where that tile starts in `upper`.
        ring: see `convolve`.
        row: see `convolve`.
        n_out: a multiple of 4.
        n_in: any number.
        width: see `convolve`.
    """
    n = np.uint64(width)
    for o in range(0, n_out, 4):
        a0 = np.uint64(start + o * STRIDE)
        a1 = a0 + NEXT
        a2 = a1 + NEXT
        a3 = a2 + NEXT
        for step in range(3):
            place = (row + step + 2) % 3 * n_in * STRIDE
            for k in range(n_in):
                b = np.uint64(place + k * STRIDE)
                s0 = s1 = s2 = t0 = t1 = t2 = u0 = u1 = u2 = v0 = v1 = v2 = ZERO
                for p in range(n):
                    x, y, z = ring[b + p], ring[b + p + ONE], ring[b + p + TWO]
                    g0, g1, g2, g3 = upper[a0 + p], upper[a1 + p], upper[a2 + p], upper[a3 + p]
                    s0 += g0 * x
                    s1 += g0 * y
                    s2 += g0 * z
                    t0 += g1 * x
                    t1 += g1 * y
                    t2 += g1 * z
                    u0 += g2 * x
                    u1 += g2 * y
                    u2 += g2 * z
                    v0 += g3 * x
                    v1 += g3 * y
                    v2 += g3 * z
                i = ((o * 3 + step) * n_in + k) * 3
                for left, middle, right in ((s0, s1, s2), (t0, t1, t2), (u0, u1, u2), (v0, v1, v2)):
                    gradient[i] += left
                    gradient[i + 1] += middle
                    gradient[i + 2] += right
                    i += 9 * n_in
