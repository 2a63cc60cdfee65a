"""Affinities and their loss, one pair of cells at a time."""

import math

import torch
from torch import Tensor

from pfit_ray.ops.affinity.path_index import path_offsets


def source_cells(height: int, width: int, radius: int) -> list[tuple[int, int]]:
    reach = radius - 1
    return [(y, x) for y in range(height - reach) for x in range(reach, width - reach)]


def gathered_affinity(edge: Tensor, radius: int) -> Tensor:
    """Every path gathered by its cell indices, then its maximum; differentiable by torch itself."""
    height, width = edge.shape[1:]
    sources = torch.tensor([y * width + x for y, x in source_cells(height, width, radius)], dtype=torch.long)
    rows = []
    for path in path_offsets(radius):
        cells = torch.stack([sources + dy * width + dx for dy, dx in path])
        rows.append(1 - edge.flatten(1)[:, cells].amax(dim=1))
    return torch.stack(rows, dim=1)


def first_highest_cells(edge: Tensor, radius: int) -> Tensor:
    """Index of the first highest cell of each path, counted from the destination: (B, D, N), cell by cell."""
    _, height, width = edge.shape
    cells = []
    for image in edge.tolist():
        rows = []
        for path in path_offsets(radius):
            row = []
            for y, x in source_cells(height, width, radius):
                values = [image[y + dy][x + dx] for dy, dx in path]
                dy, dx = path[values.index(max(values))]
                row.append((y + dy) * width + x + dx)
            rows.append(row)
        cells.append(rows)
    return torch.tensor(cells)


def gathered_loss(edge_logits: Tensor, labels: Tensor, radius: int) -> Tensor:
    """The loss as published: all affinities and masks at once, differentiated by torch."""
    affinity = gathered_affinity(edge_logits.sigmoid(), radius)
    width = labels.shape[2]
    sources = torch.tensor([y * width + x for y, x in source_cells(*labels.shape[1:], radius)])
    flat = labels.flatten(1).long()
    first = flat[:, None, sources]
    second = torch.stack([flat[:, sources + path[0][0] * width + path[0][1]] for path in path_offsets(radius)], dim=1)
    known, equal = (first != 255) & (second != 255), first == second
    same, different = -torch.log(affinity + 1e-5), -torch.log(1 + 1e-5 - affinity)
    masks = known & equal & (first == 0), known & equal & (first != 0), known & ~equal
    bg, fg, neg = (
        (values * mask).sum() / (mask.sum() + 1e-5) for values, mask in zip((same, same, different), masks, strict=True)
    )
    return bg / 4 + fg / 4 + neg / 2


def slow_loss(edge_logits: Tensor, labels: Tensor, radius: int) -> float:
    parts: dict[str, list[float]] = {"bg": [], "fg": [], "neg": []}
    affinity = gathered_affinity(edge_logits.double().sigmoid(), radius)
    sources = source_cells(*labels.shape[1:], radius)
    for image, label in enumerate(labels.tolist()):
        for row, path in enumerate(path_offsets(radius)):
            for column, (y, x) in enumerate(sources):
                first, second = label[y][x], label[y + path[0][0]][x + path[0][1]]
                value = affinity[image, row, column].item()
                if 255 in (first, second):
                    continue
                if first != second:
                    parts["neg"].append(-math.log(1 + 1e-5 - value))
                else:
                    parts["bg" if first == 0 else "fg"].append(-math.log(value + 1e-5))
    bg, fg, neg = (sum(values) / (len(values) + 1e-5) for values in parts.values())
    return (bg / 2 + fg / 2) / 2 + neg / 2
