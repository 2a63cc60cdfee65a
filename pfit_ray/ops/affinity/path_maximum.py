"""The cell with the highest value on the path between each pair of neighbouring grid cells."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pfit_ray.ops.affinity.path_index import Offset, path_offsets


class Winners(NamedTuple):
    """The highest cell of every path to the destinations of one side, as ranks among the cells of an image."""

    cells: Tensor
    """int64 (B, Hg Wg): index of the cell of each rank, ascending by value."""
    places: list[int]
    """Where the destinations stand in `path_offsets(radius)`."""
    ranks: Iterator[Tensor]
    """One tensor (B, rows, columns) per destination: the winner's rank for each source. The next one overwrites it."""


def window(grid: Tensor, offset: Offset, radius: int) -> Tensor:
    """The cells at `offset` from every source: a view (..., rows, columns) of a (..., Hg, Wg) grid.

    Sources are the cells all of whose destinations lie on the grid: the lowest radius - 1 rows and as many
    columns on either side have none.
    """
    reach = radius - 1
    rows, columns = max(grid.shape[-2] - reach, 0), max(grid.shape[-1] - 2 * reach, 0)
    top, left = offset[0], reach + offset[1]
    return grid[..., top : top + rows, left : left + columns]


def path_winners(values: Tensor, radius: int) -> Iterator[Winners]:
    """Find the highest cell of every path, the first of equals counted from the destination.

    Each image's cells are sorted once. Their ranks are small distinct integers, so the maximum over a path is the
    maximum of two bytes a cell, and it names the winner as well as its value. Among equal values the ranks ascend
    towards the destination; that is a different direction for destinations on the left and on the right, hence
    two sorts.

    Args:
        values: floats (B, Hg, Wg) on any device; NaN is the highest.
        radius: cells nearer than this are neighbours; at least 2.

    Yields:
        The destinations right of or below their source, then those to the left. Ranks are int16 where that holds
        them, else int32.
    """
    paths = path_offsets(radius)
    for leftward in (False, True):
        ranks, cells = _rank(values, leftward)
        places = [place for place, path in enumerate(paths) if (path[0][1] < 0) == leftward]
        yield Winners(cells, places, _maxima(ranks, [paths[place] for place in places], radius))


def _maxima(ranks: Tensor, paths: list[tuple[Offset, ...]], radius: int) -> Iterator[Tensor]:
    maximum = torch.empty_like(window(ranks, (0, 0), radius), memory_format=torch.contiguous_format)
    for path in paths:
        first, second, *others = (window(ranks, offset, radius) for offset in path)
        torch.maximum(first, second, out=maximum)
        for candidate in others:
            torch.maximum(maximum, candidate, out=maximum)
        yield maximum


def _rank(values: Tensor, leftward: bool) -> tuple[Tensor, Tensor]:
    """Rank of each cell (B, Hg, Wg) in its image, and the cell of each rank (B, Hg Wg)."""
    height, width = values.shape[-2:]
    y, x = (torch.arange(size, device=values.device) for size in (height, width))
    distance = y[:, None] + (x.flip(0) if leftward else x)
    # As `path_offsets` orders a path: the cell farther from the source wins, of equally far ones the upper one.
    preference = (distance * height + y.flip(0)[:, None]).flatten().argsort()
    order = values.flatten(1)[:, preference].argsort(dim=1, stable=True)
    cells = preference[order]
    n = height * width
    numbers = torch.arange(n, device=values.device, dtype=torch.int16 if n <= 2**15 else torch.int32)
    ranks = torch.empty(cells.shape, device=values.device, dtype=numbers.dtype)
    return ranks.scatter_(1, cells, numbers.expand_as(cells)).view(values.shape), cells
