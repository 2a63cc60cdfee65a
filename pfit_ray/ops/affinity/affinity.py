"""Affinities of neighbouring cells and the loss that trains the edge network (AffinityNet, IRN)."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pfit_ray.constants import BACKGROUND, IGNORE
from pfit_ray.ops.affinity.path_index import Offset, destination_offsets, path_offsets


class Winners(NamedTuple):
    """The highest cell of every path to the destinations of one side, as ranks among the cells of an image."""

    cells: Tensor
    """int64 (B, Hg Wg): index of the cell of each rank, ascending by value."""
    places: list[int]
    """Places of the destinations in `path_offsets(radius)`."""
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

    Each image's cells are sorted once. Their ranks are small distinct integers, so the maximum over a path takes two
    bytes a cell and names the winner too. Among equal values the ranks ascend towards the destination. That direction
    differs between destinations on the left and on the right, hence two sorts.

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


EPSILON = 1e-5

BG_POS, FG_POS, NEG, IGNORED = range(4)
"""Kinds of pairs: both cells background, both of one foreground class, of different labels, at least one ignored."""


class AffinityLosses(NamedTuple):
    """Mean cross entropy over the pairs of each kind, scalars; 0 where no pair is of that kind."""

    bg_pos: Tensor
    """Both cells are background."""
    fg_pos: Tensor
    """Both cells are of one foreground class."""
    neg: Tensor
    """The cells are of different labels."""


def pair_counts(labels: Tensor, radius: int) -> Tensor:
    """How many pairs of each kind there are: int64 (3,), in the order of `AffinityLosses`.

    Args:
        labels: integers (B, Hg, Wg): 0 = background, 255 = ignore, others = classes.
        radius: cells nearer than this are neighbours; at least 2.
    """
    of_pairs = _PairKinds(labels, radius)
    counts = torch.zeros(3, dtype=torch.long, device=labels.device)
    for place in range(len(of_pairs.destinations)):
        kinds = of_pairs(place)
        counts += torch.stack([(kinds == kind).sum() for kind in (BG_POS, FG_POS, NEG)])
    return counts


def affinity_losses(edge_logits: Tensor, labels: Tensor, radius: int) -> AffinityLosses:
    """Cross entropy of the affinities of neighbouring cells (Ahn and Kwak, CVPR 2018).

    The affinity of two cells is 1 - the highest edge on the path between them, both ends included. The gradient goes
    to the first highest cell counted from the destination. So the cross entropy of a pair depends on its kind and the
    highest cell of its path alone, and it is enough to count for each cell the pairs of each kind that it decides: a
    loss is a sum over cells, weighted with these counts, and so is its gradient. Nothing is held per pair, and the same
    input gives the same bits on any device.

    Args:
        edge_logits: floats (B, Hg, Wg); the losses are computed in float32 at least.
        labels: integers (B, Hg, Wg): 0 = background, 255 = ignore, others = classes.
        radius: cells nearer than this are neighbours; at least 2.
    """
    logits = edge_logits if edge_logits.dtype == torch.float64 else edge_logits.float()
    edge = logits.sigmoid()
    decided = _decided_pairs(edge.detach(), labels, radius)
    affinity = 1.0 - edge
    same = -torch.log(affinity + EPSILON)
    different = -torch.log(1.0 + EPSILON - affinity)
    terms = zip((same, same, different), decided, strict=True)
    return AffinityLosses(*((values * counts).sum() / (counts.sum() + EPSILON) for values, counts in terms))


def _decided_pairs(edge: Tensor, labels: Tensor, radius: int) -> Tensor:
    """For each kind and cell, of how many pairs the cell is the highest: int32 (3, B, Hg, Wg)."""
    total = torch.zeros((IGNORED, *edge.shape), dtype=torch.int32, device=edge.device)
    of_pairs = _PairKinds(labels, radius, scale=edge.numel(), image_scale=edge.shape[1] * edge.shape[2])
    ones = torch.ones_like(of_pairs.source, dtype=torch.int32).flatten()
    for side in path_winners(edge, radius):
        by_rank = torch.zeros((IGNORED + 1, *side.cells.shape), dtype=torch.int32, device=edge.device)
        for place, ranks in zip(side.places, side.ranks, strict=True):
            by_rank.view(-1).index_add_(0, of_pairs(place).add_(ranks).flatten(), ones)
        total.flatten(2).scatter_add_(2, side.cells.expand(IGNORED, -1, -1), by_rank[:IGNORED])
    return total


class _PairKinds:
    """The kinds of the pairs of each destination: int32 (B, rows, columns), kind * scale + image * image_scale."""

    def __init__(self, labels: Tensor, radius: int, scale: int = 1, image_scale: int = 0) -> None:
        self.labels = labels
        self.radius = radius
        self.destinations = destination_offsets(radius)
        images = image_scale * torch.arange(len(labels), dtype=torch.int32, device=labels.device)
        kinds = torch.full(labels.shape, FG_POS, dtype=torch.int32, device=labels.device)
        kinds[labels == BACKGROUND] = BG_POS
        kinds[labels == IGNORE] = IGNORED
        self.unequal = kinds.clamp(min=NEG) * scale + images[:, None, None]
        self.equal = window(kinds * scale + images[:, None, None], (0, 0), radius)
        self.source = window(labels, (0, 0), radius)
        self.unequal_source = window(self.unequal, (0, 0), radius)

    def __call__(self, place: int) -> Tensor:
        offset = self.destinations[place]
        equal = self.source == window(self.labels, offset, self.radius)
        # An ignored cell on either side outweighs the other one: its kind is the highest.
        unequal = torch.maximum(self.unequal_source, window(self.unequal, offset, self.radius))
        return torch.where(equal, self.equal, unequal)
