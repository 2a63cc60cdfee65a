"""Pairs of neighbouring grid cells and the straight paths between them (AffinityNet, IRN)."""

from functools import cache

Offset = tuple[int, int]
"""(dy, dx) relative to the source cell."""


@cache
def path_offsets(radius: int) -> tuple[tuple[Offset, ...], ...]:
    """Paths from each destination back to the source, as offsets from the source.

    Destinations lie nearer than `radius`, to the right of the source in its row or in the rows below, so
    every unordered pair of cells occurs once. A path holds all cells in the bounding box of source and
    destination whose distance to the line between them is below 1, farthest first: the destination is its
    first element, the source its last. Paths are in ascending order of their length.
    (Ahn, Cho and Kwak, CVPR 2019.)

    Args:
        radius: cells nearer than this are neighbours; at least 2.

    Returns:
        One tuple of (dy, dx) per destination: 34 of them for radius 5, 152 for radius 10.

    Raises:
        ValueError: when the radius is below 2.
    """
    if radius < 2:
        raise ValueError(f"radius is {radius}, it must be at least 2")
    reach = range(1 - radius, radius)
    offsets = [(0, dx) for dx in range(1, radius)]
    offsets += [(dy, dx) for dy in range(1, radius) for dx in reach if dy * dy + dx * dx < radius * radius]
    return tuple(sorted((_path(dy, dx) for dy, dx in offsets), key=len))


@cache
def destination_offsets(radius: int) -> tuple[Offset, ...]:
    """(dy, dx) of every destination, in the order of `path_offsets`."""
    return tuple(path[0] for path in path_offsets(radius))


def _path(dy: int, dx: int) -> tuple[Offset, ...]:
    box = ((y, x) for y in range(dy + 1) for x in range(min(dx, 0), max(dx, 0) + 1))
    near = ((y, x) for y, x in box if (dy * x - dx * y) ** 2 < dy * dy + dx * dx)
    return tuple(sorted(near, key=lambda cell: -abs(cell[0]) - abs(cell[1])))
