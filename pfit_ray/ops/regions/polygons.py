"""Regions of a mask as single closed polygons: a hole is joined to the border around it by a cut without width."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_RIGHT, _DOWN, _LEFT, _UP = range(4)
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))
_INSIDE = ((0, 0), (-1, 0), (-1, -1), (0, -1))
"""By direction, from the start of a side of a pixel to that pixel, which lies on the right."""

_Edge = tuple[int, int, int]
"""Start (x, y) and direction of one side of a pixel on the border of its region."""


class Polygon(NamedTuple):
    """A 4-connected region.

    `corners` int (N, 2) as x, y: along the sides of its pixels, so that filling it (even-odd or by winding) gives the
    region's area. `centres` int (M, 2), M >= 1: through the centres of its border pixels, for programs that fill up to
    the line and then draw the line, as OpenCV does.
    """

    corners: NDArray[np.int32]
    centres: NDArray[np.int32]


def polygons(mask: NDArray[np.bool_]) -> list[Polygon]:
    """The 4-connected regions of a mask, bool (H, W), by their first pixel, row by row."""
    rings = _rings(mask)
    at = {edge: number for number, ring in enumerate(rings) for edge in ring}
    nodes = [[_node(edge) for edge in ring] for ring in rings]
    owner = list(range(len(rings)))
    holes = []
    for number, ring in enumerate(rings):
        top = min(ring, key=lambda edge: (edge[1], edge[0]))
        if top[2] != _RIGHT:  # the first side of an outer border, from the left, goes right; that of a hole does not
            holes.append((top[1], number))
    for _, number in sorted(holes):
        ring = rings[number]
        upper = min((edge for edge in ring if edge[2] == _LEFT), key=lambda edge: (edge[1], edge[0]))
        column, row = upper[0] - 1, upper[1]
        above = row - 1
        while above > 0 and mask[above - 1, column]:
            above -= 1
        hit = (column, above, _RIGHT)
        target = owner[number] = owner[at[hit]]  # a hole above begins higher, and so has been joined before
        start = ring.index(upper)
        end = (column, row), _node(upper)[1]
        into = nodes[target]
        place = into.index(_node(hit))
        into[place:place] = [_node(hit), end, *nodes[number][start + 1 :], *nodes[number][: start + 1], end]
    return [
        Polygon(
            _simplified([corner for corner, _ in nodes[number]]), _simplified([pixel for _, pixel in nodes[number]])
        )
        for number in range(len(rings))
        if owner[number] == number
    ]


def _rings(mask: NDArray[np.bool_]) -> list[list[_Edge]]:
    """Closed borders, the region on their right, each from its first side; they turn right where two regions touch."""
    padded = np.pad(mask, 1)
    inner = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])
    left: set[_Edge] = set()
    for direction, beside in enumerate(neighbours):
        rows, columns = np.nonzero(inner & ~beside)
        dx, dy = _INSIDE[direction]
        left.update((x - dx, y - dy, direction) for y, x in zip(rows.tolist(), columns.tolist(), strict=True))
    rings = []
    for first in sorted(left, key=lambda edge: (edge[1], edge[0], edge[2])):
        if first not in left:
            continue
        ring, edge = [], first
        while edge in left:
            left.remove(edge)
            ring.append(edge)
            x, y, direction = edge
            x, y = x + _STEPS[direction][0], y + _STEPS[direction][1]
            turns = ((x, y, (direction + turn) % 4) for turn in (1, 0, 3))
            edge = next((one for one in turns if one in left), first)
        rings.append(ring)
    return rings


def _node(edge: _Edge) -> tuple[tuple[int, int], tuple[int, int]]:
    """Where a side starts, and the pixel that it is a side of."""
    x, y, direction = edge
    dx, dy = _INSIDE[direction]
    return (x, y), (x + dx, y + dy)


def _simplified(points: list[tuple[int, int]]) -> NDArray[np.int32]:
    """A closed line without points that repeat the one before or lie on the way straight on."""
    kept = [point for number, point in enumerate(points) if point != points[number - 1]] or points[:1]
    line = np.array(kept, dtype=np.int32)
    come, go = line - np.roll(line, 1, axis=0), np.roll(line, -1, axis=0) - line
    straight = (come[:, 0] * go[:, 1] == come[:, 1] * go[:, 0]) & ((come * go).sum(axis=1) > 0)
    return line[~straight]
