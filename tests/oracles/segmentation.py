"""Logits merged in the published order: each map resized by itself, then mirrored back, then summed."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def slow_merge(logits: Sequence[Tensor], height: int, width: int) -> Tensor:
    total = torch.zeros(logits[0].shape[1], height, width, dtype=torch.float64)
    for scale in logits:
        maps = F.interpolate(scale.double(), (height, width), mode="bilinear", align_corners=False)
        total += maps[0]
        if len(maps) == 2:
            total += maps[1].flip(-1)
    return total.softmax(dim=0)
