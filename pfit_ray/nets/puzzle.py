"""The puzzle of PuzzleCAM (Jo & Yu, ICIP 2021): maps of tiles should equal the maps of the whole image."""

from math import isqrt
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class PuzzleLoss(NamedTuple):
    """Scalars: `total` = `classification` + `reclassification` + alpha * `reconstruction`."""

    total: Tensor
    classification: Tensor
    reclassification: Tensor
    reconstruction: Tensor


def tile(images: Tensor, pieces: int = 4) -> Tensor:
    """Cut images (B, C, H, W) into a square grid of tiles (pieces * B, C, H / n, W / n), n = sqrt(pieces).

    The batch holds tile 0 (top left) of all images, then tile 1 (to its right) of all images, and so on.

    Raises:
        ValueError: when `pieces` is no square number, or height or width does not divide.
    """
    n = _side(pieces)
    height, width = images.shape[2:]
    if height % n or width % n:
        raise ValueError(f"images of {height} x {width} pixels do not divide into {n} x {n} equal tiles")
    rows = images.chunk(n, dim=2)
    return torch.cat([piece for row in rows for piece in row.chunk(n, dim=3)])


def merge(features: Tensor, pieces: int = 4) -> Tensor:
    """Put tiles (pieces * B, C, h, w), in the order of `tile`, back together: (B, C, n * h, n * w).

    Raises:
        ValueError: when `pieces` is no square number or does not divide the batch.
    """
    n = _side(pieces)
    if len(features) % pieces:
        raise ValueError(f"a batch of {len(features)} tiles does not hold {pieces} tiles per image")
    tiles = features.chunk(pieces)
    return torch.cat([torch.cat(tiles[row * n : (row + 1) * n], dim=3) for row in range(n)], dim=2)


def _side(pieces: int) -> int:
    n = isqrt(max(pieces, 0))
    if n < 1 or n * n != pieces:
        raise ValueError(f"the number of puzzle pieces must be a square number (1, 4, 9, ...), not {pieces}")
    return n


def puzzle_alpha(step: int, max_step: int, alpha: float = 4.0, schedule: float = 0.5) -> float:
    """Weight of the reconstruction at a step: a linear ramp from 0 to `alpha`.

    Args:
        step: 0 ... max_step.
        max_step: number of optimiser steps of the whole training.
        alpha: final weight.
        schedule: share of the training in [0, 1] that the ramp takes; 0 means no ramp.
    """
    ramp = max_step * schedule
    return alpha if step >= ramp else alpha * step / ramp


def puzzle_loss(maps: Tensor, merged: Tensor, targets: Tensor, alpha: float) -> PuzzleLoss:
    """Multi-label soft margin losses of both class maps, and their L1 distance for the present classes.

    The distance is averaged over all classes; absent ones count as 0.

    Args:
        maps: class feature maps (B, K, h, w) of the whole images.
        merged: class feature maps (B, K, h, w) of the tiles, merged.
        targets: image-level labels (B, K), 0 or 1, floating.
        alpha: weight of the distance, see `puzzle_alpha`.

    Raises:
        ValueError: when the maps differ in size, because a tile's side is no multiple of the output stride.
    """
    if maps.shape != merged.shape:
        raise ValueError(
            f"class maps {tuple(maps.shape)} of images and {tuple(merged.shape)} of merged tiles differ: "
            "the crop's side must be a multiple of the output stride times the tiles per side"
        )
    classification = F.multilabel_soft_margin_loss(maps.mean(dim=(2, 3)), targets)
    reclassification = F.multilabel_soft_margin_loss(merged.mean(dim=(2, 3)), targets)
    reconstruction = ((maps - merged).abs() * targets[:, :, None, None]).mean()
    total = classification + reclassification + alpha * reconstruction
    return PuzzleLoss(total, classification, reclassification, reconstruction)
