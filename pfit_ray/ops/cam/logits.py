"""Segmentation inference: logits of several scales to class probabilities."""

from collections.abc import Iterable

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def merge_logits(logits: Iterable[Tensor], height: int, width: int) -> NDArray[np.float32]:
    """Class probabilities: the softmax of the sum of the logits over all scales and mirrorings.

    The logits are summed, not averaged, as PuzzleCAM does: probabilities are sharper with more scales.

    Args:
        logits: per scale a float tensor (B, 1 or 2, C, h, w) on any device: for each of B images, of the scaled
            image and, if there are two, of its mirror image. Each is resized bilinearly (align_corners=False).
            One scale at a time is taken and let go.
        height: H, of the images.
        width: W, of the images.

    Returns:
        float32 (B, C, H, W) in [0, 1], which sums to 1 over the C labels (background first).

    Raises:
        ValueError: when there are no logits or a scale has neither one nor two maps.
    """
    total: Tensor | None = None
    for scale in logits:
        resized = _at_image_size(scale, height, width)
        total = resized if total is None else total.add_(resized)
    if total is None:
        raise ValueError("no logits to merge: at least one scale is needed")
    probabilities: NDArray[np.float32] = total.softmax(dim=1).cpu().numpy()
    return probabilities


def _at_image_size(scale: Tensor, height: int, width: int) -> Tensor:
    if scale.ndim != 5 or scale.shape[1] not in (1, 2):
        raise ValueError(f"logits of a scale have shape {tuple(scale.shape)}, not (B, 1 or 2, C, h, w)")
    maps = scale.float()
    # Interpolation is linear and mirror-symmetric, so the two maps are added before it, at the lesser size.
    merged = maps[:, 0] + maps[:, 1].flip(-1) if maps.shape[1] == 2 else maps[:, 0]
    return F.interpolate(merged, (height, width), mode="bilinear", align_corners=False)
