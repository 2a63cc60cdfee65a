"""Ward's agglomerative clustering of superpixels that merges neighbours only (Ward 1963)."""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

import numpy as np
from numba import njit
from numpy.typing import NDArray


def merge_superpixels(superpixels: NDArray[np.integer], features: NDArray[np.floating]) -> NDArray[np.int64]:
    """The tree in which superpixels become regions: each step merges the two neighbours that differ least.

    Two neighbours that hold n and m superpixels and whose features have the means a and b differ by

        n * m / (n + m) * |a - b|^2

    by which merging them raises the sum of squares within regions. Each superpixel counts once, whatever its size.
    Equal differences are merged in the order of (difference, larger node, smaller node), as scikit-learn's
    `ward_tree` does: both give the same tree.

    Args:
        superpixels: integers (H, W), 0..n-1, all of them present. Neighbours share a side of a pixel.
        features: float (n, D), finite.

    Returns:
        int64 (n - 1, 2): the nodes that each step merges, the smaller first. Nodes below n are superpixels; step k
        makes node n + k.

    Raises:
        ValueError: when the number of features is not that of the superpixels.
    """
    count = int(superpixels.max()) + 1 if superpixels.size else 0
    if len(features) != count:
        raise ValueError(f"{count} superpixels and {len(features)} rows of features")
    if count < 2:
        return np.zeros((0, 2), dtype=np.int64)
    starts, neighbours = _adjacency(np.ascontiguousarray(superpixels, dtype=np.int64), count)
    return _merges(starts, neighbours, np.ascontiguousarray(features, dtype=np.float64))


def cut_tree(merges: NDArray[np.int64], count: int, regions: int) -> NDArray[np.int64]:
    """The region of each superpixel when a tree is cut so that so many regions are left.

    Args:
        merges: int64 (count - 1, 2) of `merge_superpixels`.
        count: number of superpixels.
        regions: how many regions to leave, at least 1; where there are fewer superpixels each is one.

    Returns:
        int64 (count,), 0..n-1 in the order of the regions' first superpixels.

    Raises:
        ValueError: when `regions` is below 1.
    """
    if regions < 1:
        raise ValueError(f"regions is {regions}, must be at least 1")
    kept = max(0, count - regions)
    top = np.arange(count + kept)
    for step in range(kept - 1, -1, -1):  # a node's own top is known before its children ask for it
        top[merges[step]] = top[count + step]
    _, first, inverse = np.unique(top[:count], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def hierarchy(
    superpixels: NDArray[np.integer], features: NDArray[np.floating], cuts: Sequence[int]
) -> list[NDArray[np.int64]]:
    """Label maps int64 (H, W) of one tree, one for each number of regions in `cuts`; see `merge_superpixels`."""
    merges = merge_superpixels(superpixels, features)
    return [cut_tree(merges, len(features), regions)[superpixels] for regions in cuts]


@njit(cache=True, nogil=True)
def _adjacency(superpixels: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Neighbours of each superpixel, ascending and each once, as the rows of a sparse matrix."""
    height, width = superpixels.shape
    codes = np.empty(4 * height * width, dtype=np.int64)
    found = 0
    for y in range(height):
        for x in range(width):
            here = superpixels[y, x]
            for there in (
                superpixels[y, x + 1] if x + 1 < width else here,
                superpixels[y + 1, x] if y + 1 < height else here,
            ):
                if there != here:
                    codes[found] = here * count + there
                    codes[found + 1] = there * count + here
                    found += 2
    unique = np.unique(codes[:found])
    starts = np.zeros(count + 1, dtype=np.int64)
    neighbours = np.empty(len(unique), dtype=np.int64)
    for index, code in enumerate(unique):
        starts[code // count + 1] += 1
        neighbours[index] = code % count
    return np.cumsum(starts), neighbours


@njit(cache=True, nogil=True)
def _difference(sizes: NDArray[np.float64], sums: NDArray[np.float64], one: int, other: int) -> float:
    squares = 0.0
    for channel in range(sums.shape[1]):
        gap = sums[one, channel] / sizes[one] - sums[other, channel] / sizes[other]
        squares += gap * gap
    return squares * (sizes[one] * sizes[other] / (sizes[one] + sizes[other]))


@njit(cache=True, nogil=True)
def _merges(
    starts: NDArray[np.int64], neighbours: NDArray[np.int64], features: NDArray[np.float64]
) -> NDArray[np.int64]:
    count, channels = features.shape
    nodes = 2 * count - 1
    sizes = np.ones(nodes)
    sums = np.empty((nodes, channels))
    sums[:count] = features
    parent = np.arange(nodes)
    seen = np.full(nodes, -1, dtype=np.int64)
    first, last = np.zeros(nodes, dtype=np.int64), np.zeros(nodes, dtype=np.int64)
    first[:count], last[:count] = starts[:-1], starts[1:]
    pool = np.empty(4 * len(neighbours) + 1, dtype=np.int64)
    pool[: len(neighbours)] = neighbours
    used = len(neighbours)
    queue = [(_difference(sizes, sums, 1, 0), 1, 0) for _ in range(0)]
    for one in range(count):
        for place in range(first[one], last[one]):
            other = pool[place]
            if other < one:
                queue.append((_difference(sizes, sums, one, other), one, other))
    heapify(queue)
    merges = np.empty((count - 1, 2), dtype=np.int64)
    for node in range(count, nodes):
        _, one, other = heappop(queue)
        while parent[one] != one or parent[other] != other:
            _, one, other = heappop(queue)
        merges[node - count] = other, one
        parent[one] = parent[other] = node
        sizes[node] = sizes[one] + sizes[other]
        sums[node] = sums[one] + sums[other]
        room = last[one] - first[one] + last[other] - first[other]
        if used + room > len(pool):
            larger = np.empty(2 * len(pool) + room, dtype=np.int64)
            larger[:used] = pool[:used]
            pool = larger
        first[node] = used
        for child in (one, other):
            for place in range(first[child], last[child]):
                neighbour = pool[place]
                while parent[neighbour] != neighbour:
                    parent[neighbour] = parent[parent[neighbour]]
                    neighbour = parent[neighbour]
                if neighbour != node and seen[neighbour] != node:
                    seen[neighbour] = node
                    pool[used] = neighbour
                    used += 1
                    heappush(queue, (_difference(sizes, sums, node, neighbour), node, neighbour))
        last[node] = used
    return merges
