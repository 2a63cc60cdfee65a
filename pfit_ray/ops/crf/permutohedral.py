"""The permutohedral lattice: Gaussian filters in many dimensions (Adams, Baek and Davis, Eurographics 2010)."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

_HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_WORD = 64
_FIRST_TABLE_BITS = 8
_MARGIN = 4
"""How many cells rounding, a simplex's corners and their neighbours may lie outside the features' range."""


class Lattice(NamedTuple):
    """The lattice points around N features of D dimensions, M points in all.

    Args:
        offsets: int32 (N, D + 1): the points at the corners of each feature's simplex, 0..M-1.
        weights: float32 (N, D + 1): their barycentric weights, which sum to 1.
        chains: int32 (D + 1, M): for each direction the points with a neighbour in it, neighbours one after the other,
            as twice the point, plus 1 where the next entry is no neighbour.
        lengths: int64 (D + 1): entries of each row of `chains` that count.
        size: M.
    """

    offsets: NDArray[np.int32]
    weights: NDArray[np.float32]
    chains: NDArray[np.int32]
    lengths: NDArray[np.int64]
    size: int

    @property
    def attenuation(self) -> float:
        """The factor of the blur's result with which its weights sum to about 1."""
        return 1 / (1 + 2.0 ** (1 - self.offsets.shape[1]))


def build_lattice(features: NDArray[np.float32]) -> Lattice:
    """The lattice for a Gaussian of standard deviation 1 in each dimension.

    Args:
        features: float32 (N, D), N and D at least 1, finite.

    Raises:
        ValueError: when the features spread over so many lattice cells that no 64-bit key tells them apart.
    """
    scales = scale_factors(features.shape[1])
    lows, strides = key_layout(*_bounds(features, scales))
    return Lattice(*_build(features, scales, lows, strides))


def filtered_ones(lattice: Lattice) -> NDArray[np.float32]:
    """The filter's result for 1 at every feature: float32 (N,), > 0."""
    return _filter_ones(*lattice, np.float32(lattice.attenuation))


def scale_factors(dimensions: int) -> NDArray[np.float32]:
    """Factors of the features, (D,), with which the lattice's blur has standard deviation 1."""
    deviation = np.float32(math.sqrt(2 / 3) * (dimensions + 1))
    return np.array([deviation / math.sqrt((i + 1) * (i + 2)) for i in range(dimensions)], np.float32)


def key_layout(
    least: NDArray[np.float32], most: NDArray[np.float32], lattices: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How a lattice point's coordinates, (D + 1) cell + corner, become one number.

    The key is (D + 1) times the sum of (cell - low) stride over the first D coordinates, plus the corner.

    Args:
        least: the least scaled feature of each dimension.
        most: the largest.
        lattices: how many lattices are told apart by the last stride.

    Returns:
        Lowest cell of each coordinate, int64 (D,), and strides, int64 (D + 1,).

    Raises:
        ValueError: when the keys do not fit into 63 bits.
    """
    dimensions = len(least)
    lows, strides, stride = [], [], 1
    for i in range(dimensions):
        # Coordinate i of the plane is the sum of the scaled features from i on, less i times that before it.
        before = (i * float(least[i - 1]), i * float(most[i - 1])) if i else (0.0, 0.0)
        low = math.floor((least[i:].sum() - before[1]) / (dimensions + 1)) - _MARGIN
        high = math.ceil((most[i:].sum() - before[0]) / (dimensions + 1)) + _MARGIN
        lows.append(low)
        strides.append(stride)
        stride *= high - low + 1
    if stride * lattices * (dimensions + 1) >= 2 ** (_WORD - 1):
        raise ValueError("the widths of the filter are too small for this image: its lattice has more than 2^63 cells")
    return np.array(lows, np.int64), np.array([*strides, stride], np.int64)


@njit(cache=True, nogil=True)
def _bounds(features, scales):  # type: ignore[no-untyped-def]
    least, most = features[0] * scales, features[0] * scales
    for p in range(1, len(features)):
        for i in range(len(scales)):
            value = features[p, i] * scales[i]
            least[i] = min(least[i], value)
            most[i] = max(most[i], value)
    return least, most


@njit(cache=True, nogil=True)
def _slot(table, keys, key, shift):  # type: ignore[no-untyped-def]
    """The place of a key in the hash table, or the free place for it."""
    slot = np.int64((np.uint64(key) * _HASH_FACTOR) >> shift)
    while table[slot] >= 0 and keys[table[slot]] != key:
        slot = (slot + 1) & (len(table) - 1)
    return slot


@njit(cache=True, nogil=True)
def _larger(table, keys, size):  # type: ignore[no-untyped-def]
    """Table and keys with twice the room."""
    table = np.full(2 * len(table), -1, np.int32)
    more = np.empty(2 * len(keys), np.int64)
    for point in range(size):  # numba takes seconds to compile the assignment of a slice
        more[point] = keys[point]
    bits = 0
    while (1 << bits) < len(table):
        bits += 1
    shift = np.uint64(_WORD - bits)
    for point in range(size):
        table[_slot(table, more, more[point], shift)] = point
    return table, more, shift


@njit(cache=True, nogil=True)
def _build(features, scales, lows, strides):  # type: ignore[no-untyped-def]
    n, dimensions = features.shape
    corners = dimensions + 1
    offsets = np.empty((n, corners), np.int32)
    weights = np.empty((n, corners), np.float32)
    table = np.full(1 << _FIRST_TABLE_BITS, -1, np.int32)
    keys = np.empty(len(table) // 2, np.int64)
    shift = np.uint64(_WORD - _FIRST_TABLE_BITS)
    size = 0
    position = np.empty(corners, np.float32)
    cell = np.empty(corners, np.int64)
    rank = np.empty(corners, np.int64)
    share = np.empty(corners + 1, np.float32)
    last_keys = np.full(corners, -1, np.int64)
    inverse = np.float32(1 / corners)
    for p in range(n):
        # The feature in the plane of coordinates that sum to 0.
        ahead = np.float32(0)
        for i in range(dimensions, 0, -1):
            scaled = features[p, i - 1] * scales[i - 1]
            position[i] = ahead - np.float32(i) * scaled
            ahead += scaled
        position[0] = ahead
        # The nearest point whose coordinates are multiples of D + 1; where they do not sum to 0, the coordinates
        # that were rounded furthest are rounded the other way.
        excess = 0
        for i in range(corners):
            cell[i] = np.int64(np.rint(position[i] * inverse))
            excess += cell[i]
            rank[i] = 0
        for i in range(dimensions):
            inside = position[i] - np.float32(cell[i] * corners)
            for j in range(i + 1, corners):
                if inside < position[j] - np.float32(cell[j] * corners):
                    rank[i] += 1
                else:
                    rank[j] += 1
        for i in range(corners):
            rank[i] += excess
            if rank[i] < 0:
                rank[i] += corners
                cell[i] += 1
            elif rank[i] > dimensions:
                rank[i] -= corners
                cell[i] -= 1
        share[:] = 0
        for i in range(corners):
            value = (position[i] - np.float32(cell[i] * corners)) * inverse
            share[dimensions - rank[i]] += value
            share[corners - rank[i]] -= value
        share[0] += np.float32(1) + share[corners]
        for corner in range(corners):
            # Coordinates of a point are (D + 1) cell + corner.
            key = np.int64(0)
            for i in range(dimensions):
                key += (cell[i] - (rank[i] > dimensions - corner) - lows[i]) * strides[i]
            key = key * corners + corner
            weights[p, corner] = share[corner]
            if key == last_keys[corner]:  # the feature before lies in the same simplex
                offsets[p, corner] = offsets[p - 1, corner]
                continue
            last_keys[corner] = key
            slot = _slot(table, keys, key, shift)
            if table[slot] < 0:
                if size == len(keys):
                    table, keys, shift = _larger(table, keys, size)
                    slot = _slot(table, keys, key, shift)
                table[slot] = size
                keys[size] = key
                size += 1
            offsets[p, corner] = table[slot]
    chains, lengths = _chains(table, keys[:size], shift, strides)
    return offsets, weights, chains, lengths, size


@njit(cache=True, nogil=True)
def _chains(table, keys, shift, strides):  # type: ignore[no-untyped-def]
    size, corners = len(keys), len(strides)
    chains = np.empty((corners, size), np.int32)
    lengths = np.zeros(corners, np.int64)
    following = np.empty(size, np.int32)
    is_start = np.empty(size, np.bool_)
    # A step adds 1 to every coordinate and takes D + 1 off one of them; the last one is not in the key.
    everywhere = strides[:-1].sum() * corners - (corners - 1)
    for direction in range(corners):
        taken = strides[direction] * corners if direction < corners - 1 else 0
        is_start[:] = True
        for point in range(size):
            wraps = keys[point] % corners == corners - 1
            key = keys[point] + (everywhere if wraps else 1) - taken
            found = table[_slot(table, keys, key, shift)]
            following[point] = found
            if found >= 0:
                is_start[found] = False
        length = 0
        for start in range(size):
            if is_start[start] and following[start] >= 0:
                point = np.int32(start)
                while following[point] >= 0:
                    chains[direction, length] = 2 * point
                    length += 1
                    point = following[point]
                chains[direction, length] = 2 * point + 1
                length += 1
        lengths[direction] = length
    return chains, lengths


@njit(cache=True, nogil=True)
def _filter_ones(offsets, weights, chains, lengths, size, factor):  # type: ignore[no-untyped-def]
    n, corners = offsets.shape
    values = np.zeros(size, np.float32)
    for p in range(n):
        for corner in range(corners):
            values[offsets[p, corner]] += weights[p, corner]
    half = np.float32(0.5)
    for direction in range(corners):
        before = np.float32(0)
        for k in range(lengths[direction]):
            entry = chains[direction, k]
            value = values[entry >> 1]
            after = np.float32(0) if entry & 1 else values[chains[direction, k + 1] >> 1]
            values[entry >> 1] = value + half * (before + after)
            before = np.float32(0) if entry & 1 else value
    result = np.empty(n, np.float32)
    for p in range(n):
        total = np.float32(0)
        for corner in range(corners):
            total += weights[p, corner] * values[offsets[p, corner]]
        result[p] = total * factor
    return result
