"""Class probabilities and labels of a segmentation, as numpy arrays."""

import numpy as np
from numpy.typing import NDArray

from pfit_ray.constants import BACKGROUND
from pfit_ray.ops.cam.cam import resize_maps


def drop_rare_labels(probabilities: NDArray[np.float32], floor: float) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Leave out the labels that are improbable everywhere: the CRF's cost grows with their number.

    Args:
        probabilities: float32 (C, H, W), background first.
        floor: a label stays if its probability reaches this value anywhere, or is 1 / C, so that whatever is likeliest
            somewhere stays; the background always stays, and 0 keeps all.

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
