"""Segmentation inference: logits become class probabilities, and these labels."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pfit_ray.constants import BACKGROUND
from pfit_ray.ops.cam.cam import resize_maps

if TYPE_CHECKING:
    from torch import Tensor  # workers that only finish images do without torch


def merge_logits(logits: "Iterable[Tensor]", height: int, width: int) -> NDArray[np.float32]:
    """Class probabilities: the softmax of the sum of the logits over all scales and mirrorings.

    The logits are summed, not averaged, as PuzzleCAM does: probabilities are sharper with more scales.

    Args:
        logits: per scale a float tensor (B, 1 or 2, C, h, w) on any device: for each of B images, of the scaled
            image and, if there are two, of its mirror image. Each is resized bilinearly (align_corners=False).
            Scales are consumed one at a time.
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


def _at_image_size(scale: "Tensor", height: int, width: int) -> "Tensor":
    if scale.ndim != 5 or scale.shape[1] not in (1, 2):
        raise ValueError(f"logits of a scale have shape {tuple(scale.shape)}, not (B, 1 or 2, C, h, w)")
    maps = scale.float()
    # Interpolation is linear and mirror-symmetric, so the two maps are added before it, at the lesser size.
    merged = maps[:, 0] + maps[:, 1].flip(-1) if maps.shape[1] == 2 else maps[:, 0]
    from torch.nn import functional as F

    return F.interpolate(merged, (height, width), mode="bilinear", align_corners=False)


def drop_rare_labels(probabilities: NDArray[np.float32], floor: float) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Leave out the labels that are improbable everywhere: the CRF's cost grows with their number.

    Args:
        probabilities: float32 (C, H, W), background first.
        floor: a label stays if its probability reaches this value, or 1 / C, anywhere. So whatever is likeliest
            somewhere stays. The background always stays, and 0 keeps all.

    Returns:
        (kept, rest): int32 indices of the kept labels, ascending, and their probabilities, as they were
        (without the dropped ones they may sum to less than 1).
    """
    keep = probabilities.max(axis=(1, 2)) >= min(floor, 1 / len(probabilities))
    keep[BACKGROUND] = True
    return np.flatnonzero(keep).astype(np.int32), probabilities[keep]


def enlarged_argmax(values: NDArray[np.float32], height: int, width: int) -> NDArray[np.intp]:
    """Index of the highest of C maps at another size, without holding all maps at that size.

    Args:
        values: float32 (C, h, w).
        height: H of the result.
        width: W of the result; the maps are resized bilinearly (align_corners=False).

    Returns:
        (H, W), 0..C-1; of equal values the first counts.
    """
    best = np.full((height, width), -np.inf, dtype=np.float32)
    index = np.zeros((height, width), dtype=np.intp)
    for number, one in enumerate(values):
        enlarged = resize_maps(one[None], height, width)[0]
        higher = enlarged > best
        index[higher] = number
        best[higher] = enlarged[higher]
    return index
