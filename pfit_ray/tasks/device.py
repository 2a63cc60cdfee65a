"""Where a network runs and in which precision."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Precision = Literal["float32", "bfloat16", "float16"]


def pick_device() -> torch.device:
    """The GPU that this worker was given, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Context in which a forward pass runs in the given precision."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


def normalised_batch(
    image: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> Tensor:
    """An image as a network's input.

    Args:
        image: uint8 RGB (H, W, 3).
        mean: mean of the three channels, in [0, 1].
        std: standard deviation of the three channels, in [0, 1].
        device: where the result lies.

    Returns:
        float32 (1, 3, H, W).
    """
    scaled = (image / 255.0 - np.asarray(mean)) / np.asarray(std)
    planes = np.ascontiguousarray(scaled.transpose(2, 0, 1), dtype=np.float32)
    return torch.from_numpy(planes)[None].to(device)


def with_mirror(batch: Tensor, flip: bool) -> Tensor:
    """The batch of one image (1, 3, H, W) and, if asked, its mirror image (2, 3, H, W)."""
    return torch.cat([batch, batch.flip(-1)]) if flip else batch
