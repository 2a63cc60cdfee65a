"""Random walk of the maps of several images at once, as a stencil in torch, for GPUs."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pfit_ray.ops.affinity.path_index import Offset, path_offsets
from pfit_ray.ops.affinity.walk import VANISHING_RESULT, VANISHING_VALUE, VANISHING_WEIGHT


def stencil_weights(edges: Tensor, *, radius: int, beta: float) -> tuple[Tensor, list[Offset]]:
    """Weights of a cell's neighbours in its next value: the columns of `transition_matrix`.

    Args:
        edges: floats (B, h, w) in [0, 1], boundary probabilities of images of one size.
        radius: cells nearer than this are neighbours; at least 2.
        beta: exponent of the affinities, > 0.

    Returns:
        weights: float64 (B, S, h, w), sum over S is 1; 0 for neighbours outside the grid. S is 69 for radius 5.
        offsets: (dy, dx) of the S neighbours relative to the cell, the cell itself first.
    """
    edges = edges.double()
    height, width = edges.shape[-2:]
    paths = path_offsets(radius)
    offsets = [(0, 0), *(path[0] for path in paths), *((-path[0][0], -path[0][1]) for path in paths)]
    weights = edges.new_zeros((len(edges), len(offsets), height, width))
    weights[:, 0] = 1.0
    for place, path in enumerate(paths, start=1):
        dy, dx = path[0]
        rows, columns, left = height - dy, width - abs(dx), max(-dx, 0)
        if rows <= 0 or columns <= 0:
            continue
        highest = edges[:, dy:, left + dx : left + dx + columns].clone()
        for y, x in path[1:]:
            torch.maximum(highest, edges[:, y : y + rows, left + x : left + x + columns], out=highest)
        weight = (1.0 - highest) ** beta
        weight[weight < VANISHING_WEIGHT] = 0.0
        weights[:, place, :rows, left : left + columns] = weight
        weights[:, place + len(paths), dy:, left + dx : left + dx + columns] = weight
    return weights.div_(weights.sum(dim=1, keepdim=True)), offsets


def random_walks(cams: Tensor, edges: Tensor, *, radius: int, beta: float, exp_times: int) -> Tensor:
    """`random_walk` of the maps of several images of one size; equal to it within 1e-5.

    Everything is in double precision: single precision ends at 1e-38, and walks across strong edges go far below.
    Memory, not arithmetic, limits the speed. (Ahn and Kwak, CVPR 2018.)

    Args:
        cams: floats (B, K, h, w), at least 0, on any device. Images of fewer classes have maps of zeros in addition.
        edges: floats (B, h, w) in [0, 1], boundary probabilities, on the same device.
        radius: cells nearer than this are neighbours; at least 2.
        beta: exponent of the affinities, > 0.
        exp_times: the walk takes 2 to this power steps; at least 0.

    Returns:
        float32 (B, K, h, w), at least 0, not normalised; values below 1e-36 are 0.

    Raises:
        ValueError: when the maps and the edges differ in number or size.
    """
    if (len(cams), *cams.shape[2:]) != edges.shape:
        raise ValueError(f"the maps are {tuple(cams.shape)}, the edges {tuple(edges.shape)}: they must have one size")
    weights, offsets = stencil_weights(edges, radius=radius, beta=beta)
    height, width = edges.shape[-2:]
    reach = radius - 1
    values = cams.double() * (1.0 - edges.double())[:, None]
    padded = F.pad(values, (reach, reach, reach, reach))
    # Views of one buffer that every step writes anew.
    shifted = [padded[..., reach + dy : reach + dy + height, reach + dx : reach + dx + width] for dy, dx in offsets]
    for _ in range(2**exp_times):
        shifted[0].masked_fill_(shifted[0] < VANISHING_VALUE, 0.0)
        torch.mul(weights[:, :1], shifted[0], out=values)
        for place in range(1, len(offsets)):
            values.addcmul_(weights[:, place, None], shifted[place])
        shifted[0].copy_(values)
    return values.masked_fill_(values < VANISHING_RESULT, 0.0).float()
