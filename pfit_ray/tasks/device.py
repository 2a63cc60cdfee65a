"""Where a network runs and in which precision."""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
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
    images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> Tensor:
    """Images as a network's input.

    Args:
        images: uint8 RGB (B, H, W, 3).
        mean: mean of the three channels, in [0, 1].
        std: standard deviation of the three channels, in [0, 1].
        device: where the result lies.

    Returns:
        float32 (B, 3, H, W).
    """
    table = _normalised_values(mean, std)
    if device.type != "cpu":  # a quarter of the bytes to move, and nothing for the host to compute
        values = torch.from_numpy(table).to(device)
        pixels = torch.from_numpy(images).to(device)
        return torch.stack([row[pixels[..., channel].int()] for channel, row in enumerate(values)], dim=1)
    planes = np.empty((len(images), 3, *images.shape[1:3]), dtype=np.float32)
    for image, three in zip(images, planes, strict=True):
        for channel, row, plane in zip(cv2.split(image), table, three, strict=True):
            cv2.LUT(channel, row, plane)
    return torch.from_numpy(planes)


@cache
def _normalised_values(mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """What each of the 256 values of each channel becomes, float32 (3, 256)."""
    values = np.arange(256) / 255.0
    return np.stack([((values - middle) / width).astype(np.float32) for middle, width in zip(mean, std, strict=True)])


def with_mirrors(batch: Tensor, flip: bool) -> Tensor:
    """A batch of images (B, 3, H, W), followed by their mirror images (2 B, 3, H, W) if asked."""
    return torch.cat([batch, batch.flip(-1)]) if flip else batch


def by_image(results: Tensor, images: int) -> Tensor:
    """What the network says of a batch `with_mirrors`, (B, ...) or (2 B, ...), as (B, 1 or 2, ...)."""
    return results.unflatten(0, (-1, images)).transpose(0, 1)
