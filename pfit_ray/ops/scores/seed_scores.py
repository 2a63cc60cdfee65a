"""Quality of an image's labels without ground truth. Every score is in [0, 1]."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pfit_ray.constants import BACKGROUND, IGNORE


def mask_agreement(masks: Sequence[NDArray[np.bool_]], hr_cam: NDArray[np.floating]) -> float:
    """Overlap of PerimeterFit masks, each pixel weighted by its activation.

    The score is the share of the activation covered by any mask that all masks cover, over all classes together. The
    weight keeps perimeters outside the CAM, which a mask may contain, from counting.

    Args:
        masks: one or more bool (K, H, W).
        hr_cam: float (K, H, W), not negative.

    Returns:
        0..1; 1.0 when no mask covers any activation.
    """
    either = float(hr_cam.sum(where=np.logical_or.reduce(masks), dtype=np.float64))
    both = float(hr_cam.sum(where=np.logical_and.reduce(masks), dtype=np.float64))
    return both / either if either > 0 else 1.0


def cam_margin(hr_cam: NDArray[np.floating], *, threshold: float) -> float:
    """How clearly the winning class wins.

    Background takes part as a class whose value is `threshold` everywhere. The score is the mean, over
    the pixels where a foreground class wins, of the distance between the two highest values.

    Args:
        hr_cam: float (K, H, W) in [0, 1].
        threshold: value of the background, 0..1.

    Returns:
        0..1; 0.0 when no pixel is foreground.
    """
    first = np.full(hr_cam.shape[1:], threshold, dtype=np.float32)
    second = np.zeros_like(first)
    for values in hr_cam.astype(np.float32):
        second = np.maximum(second, np.minimum(first, values))
        first = np.maximum(first, values)
    foreground = first > np.float32(threshold)
    return float((first - second)[foreground].mean(dtype=np.float64)) if foreground.any() else 0.0


def foreground_share(label_map: NDArray[np.uint8]) -> float:
    """Share of the pixels of a label map (H, W) that are neither background nor ignored."""
    return float(((label_map != BACKGROUND) & (label_map != IGNORE)).mean())


def crf_change(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """Share of the pixels whose label the CRF changed.

    Args:
        before: uint8 (H, W), labels before the CRF.
        after: uint8 (H, W), labels after it.

    Returns:
        0..1.

    Raises:
        ValueError: when the sizes differ.
    """
    if before.shape != after.shape:
        raise ValueError(f"label maps of shape {before.shape} and {after.shape} cannot be compared")
    return float((before != after).mean())
