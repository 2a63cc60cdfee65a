"""Segmentation inference: logits of several scales to class probabilities."""

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pfit_ray.schema import BACKGROUND


def merge_logits(logits: Sequence[Tensor], height: int, width: int) -> NDArray[np.float32]:
    """Class probabilities: the softmax of the sum of the logits over all scales and mirrorings.

    The logits are summed, not averaged, as PuzzleCAM does: probabilities are sharper with more scales.

    Args:
        logits: per scale a float tensor (1 or 2, C, h, w) on any device: of the scaled image and, if there
            are two, of its mirror image. Each is resized bilinearly (align_corners=False).
        height: H, of the image.
        width: W, of the image.

    Returns:
        float32 (C, H, W) in [0, 1], which sums to 1 over the C labels (background first).

    Raises:
        ValueError: when there are no logits or a scale has neither one nor two maps.
    """
    if not logits:
        raise ValueError("no logits to merge: at least one scale is needed")
    total = _at_image_size(logits[0], height, width)
    for scale in logits[1:]:
        total += _at_image_size(scale, height, width)
    probabilities: NDArray[np.float32] = total.softmax(dim=0).cpu().numpy()
    return probabilities


def _at_image_size(scale: Tensor, height: int, width: int) -> Tensor:
    if scale.ndim != 4 or scale.shape[0] not in (1, 2):
        raise ValueError(f"logits of a scale have shape {tuple(scale.shape)}, not (1 or 2, C, h, w)")
    maps = scale.float()
    # Interpolation is linear and mirror-symmetric, so the two maps are added before it, at the lesser size.
    merged = maps[:1] + maps[1:].flip(-1) if len(maps) == 2 else maps
    return F.interpolate(merged, (height, width), mode="bilinear", align_corners=False)[0]


def drop_rare_labels(probabilities: NDArray[np.float32], floor: float) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Leave out the labels that are improbable everywhere: the CRF's cost grows with their number.

    Args:
        probabilities: float32 (C, H, W), background first.
        floor: a label stays if its probability reaches this value anywhere; the background always
            stays, and 0 keeps all.

    Returns:
        (kept, rest): int32 indices of the kept labels, ascending, and their probabilities, as they were
        (without the dropped ones they may sum to less than 1).
    """
    keep = probabilities.max(axis=(1, 2)) >= floor
    keep[BACKGROUND] = True
    return np.flatnonzero(keep).astype(np.int32), probabilities[keep]
