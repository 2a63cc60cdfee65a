"""Affinities of neighbouring cells and the loss that trains the edge network (AffinityNet, IRN)."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pfit_ray.ops.path_index import Offset, destination_offsets, path_offsets
from pfit_ray.schema import BACKGROUND, IGNORE

EPSILON = 1e-5


class AffinityPairs(NamedTuple):
    """Which pairs of cells train what: three bool (B, D, N) masks, disjoint."""

    bg_pos: Tensor
    """Both cells are background."""
    fg_pos: Tensor
    """Both cells are of one foreground class."""
    neg: Tensor
    """The cells are of different labels."""


def _window(grid: Tensor, offset: Offset, radius: int) -> Tensor:
    """The cells at `offset` from every source: a view (..., rows, columns) of a (..., Hg, Wg) grid.

    Sources are the cells all of whose destinations lie on the grid: the lowest radius - 1 rows and as many
    columns on either side have none.
    """
    reach = radius - 1
    rows, columns = max(grid.shape[-2] - reach, 0), max(grid.shape[-1] - 2 * reach, 0)
    top, left = offset[0], reach + offset[1]
    return grid[..., top : top + rows, left : left + columns]


class _PathMaximum(torch.autograd.Function):
    """Maximum over each path; the gradient goes to the first maximal cell, counted from the destination.

    Slices are compared one after another and only the winner's place in its path is kept (one byte a pair),
    so memory is five bytes a pair; gathering whole paths takes four bytes times their length, about 14.
    """

    @staticmethod
    def forward(ctx: Any, edge: Tensor, radius: int) -> Tensor:
        paths = path_offsets(radius)
        shape = (len(paths), *_window(edge, (0, 0), radius).shape)
        maxima = edge.new_empty(shape)
        places = torch.zeros(shape, dtype=torch.uint8, device=edge.device)
        for path, maximum, place in zip(paths, maxima, places, strict=True):
            maximum.copy_(_window(edge, path[0], radius))
            for step, offset in enumerate(path[1:], start=1):
                candidate = _window(edge, offset, radius)
                # As steps ascend, the maximum overwrites; masked_fill_ does the same at ten times the cost.
                torch.maximum(place, (candidate > maximum).view(torch.uint8) * step, out=place)
                torch.maximum(maximum, candidate, out=maximum)
        ctx.save_for_backward(places)
        ctx.radius, ctx.edge_shape = radius, edge.shape
        return maxima.flatten(2).transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        cells = torch.arange(ctx.edge_shape.numel(), device=gradient.device).view(ctx.edge_shape)
        sources = _window(cells, (0, 0), ctx.radius).flatten()
        total = gradient.new_zeros(ctx.edge_shape.numel())
        for path, place, part in zip(path_offsets(ctx.radius), places, gradient.unbind(1), strict=True):
            shifts = torch.tensor([dy * ctx.edge_shape[-1] + dx for dy, dx in path], device=gradient.device)
            total.index_add_(0, sources + shifts[place.flatten().long()], part.flatten())
        return total.view(ctx.edge_shape), None


class AffinityLoss(NamedTuple):
    """Mean cross entropy over each kind of `AffinityPairs`, scalars; 0 where no pair is of that kind."""

    bg_pos: Tensor
    fg_pos: Tensor
    neg: Tensor


def edge_to_affinity(edge: Tensor, radius: int) -> Tensor:
    """Affinity of each pair of cells: 1 - the highest edge on the path between them, both ends included.

    Differentiable, on any device. (Ahn, Cho and Kwak, CVPR 2019.)

    Args:
        edge: floats (B, Hg, Wg) in [0, 1], boundary probabilities.
        radius: cells nearer than this are neighbours; at least 2.

    Returns:
        (B, D, N) in [0, 1]: D destinations in the order of `destination_offsets(radius)`, N sources in
        row-major order, the cells all of whose destinations lie on the grid; a grid too small for any
        gives N = 0.
    """
    maximum: Tensor = _PathMaximum.apply(edge, radius)
    return 1.0 - maximum


def affinity_pairs(labels: Tensor, radius: int) -> AffinityPairs:
    """Sort the pairs of cells by their labels; pairs with an ignored cell are in no mask.

    Args:
        labels: integers (B, Hg, Wg): 0 = background, 255 = ignore, others = classes.
        radius: as in `edge_to_affinity`.

    Returns:
        Masks of shape (B, D, N), rows and sources as in `edge_to_affinity`.
    """
    source = _window(labels, (0, 0), radius)[:, None]
    destinations = [_window(labels, offset, radius) for offset in destination_offsets(radius)]
    destination = torch.stack(destinations, dim=1)
    valid = (source != IGNORE) & (destination != IGNORE)
    equal = (source == destination) & valid
    background = source == BACKGROUND
    masks = equal & background, equal & ~background, (source != destination) & valid
    return AffinityPairs(*(mask.flatten(2) for mask in masks))


def affinity_loss(edge_logits: Tensor, labels: Tensor, radius: int) -> Tensor:
    """Cross entropy of the affinities, half for pairs of equal labels and half for unequal ones.

    The half of the equal labels is split evenly between background and foreground. Each part is the mean over
    all its pairs in the batch; a part without pairs is 0.
    (Ahn and Kwak, CVPR 2018.)

    Args:
        edge_logits: floats (B, Hg, Wg); the loss is computed in float32 at least.
        labels: integers (B, Hg, Wg): 0 = background, 255 = ignore, others = classes.
        radius: cells nearer than this are neighbours; at least 2.

    Returns:
        The loss, a scalar tensor.
    """
    parts = affinity_loss_parts(edge_logits, labels, radius)
    return parts.bg_pos / 4 + parts.fg_pos / 4 + parts.neg / 2


def affinity_loss_parts(edge_logits: Tensor, labels: Tensor, radius: int) -> AffinityLoss:
    """The three parts of `affinity_loss`, which takes the same arguments."""
    logits = edge_logits if edge_logits.dtype == torch.float64 else edge_logits.float()
    affinity = edge_to_affinity(logits.sigmoid(), radius)
    pairs = affinity_pairs(labels, radius)
    same = -torch.log(affinity + EPSILON)
    different = -torch.log(1.0 + EPSILON - affinity)
    return AffinityLoss(_mean(same, pairs.bg_pos), _mean(same, pairs.fg_pos), _mean(different, pairs.neg))


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / (mask.sum() + EPSILON)
