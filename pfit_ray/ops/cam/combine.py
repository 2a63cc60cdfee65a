"""Combined CAM: the CAM doubled where the PerimeterFit masks agree."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pfit_ray.ops.cam.cam import resize_maps


def combine_hr_cam(hr_cam: NDArray[np.floating], masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.float32]:
    """Double the CAM where all masks agree (PerimeterFit, Ostrowski, Prabakaran and Shafique 2023).

    Args:
        hr_cam: float (K, H, W) in [0, 1].
        masks: one or more bool (K, H, W).

    Returns:
        float32 (K, H, W) in [0, 2].

    Raises:
        ValueError: when there is no mask or a size differs.
    """
    _check(len(hr_cam), masks)
    agreed = np.logical_and.reduce(masks)
    cam = hr_cam.astype(np.float32)
    return cam + cam * agreed


def combine_cam(cam: NDArray[np.floating], masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.float32]:
    """Raise the strided CAM by the product of the masks.

    Each mask is resized on its own to the strided grid (bilinear, not antialiased), so the product has values between 0
    and 1 along the mask's border.

    Args:
        cam: float (K, h, w) in [0, 1].
        masks: one or more bool (K, H, W).

    Returns:
        float32 (K, h, w) in [0, 2].

    Raises:
        ValueError: when there is no mask or a size differs.
    """
    _check(len(cam), masks)
    height, width = cam.shape[1:]
    agreed = np.prod([resize_maps(mask, height, width) for mask in masks], axis=0)
    combined = cam.astype(np.float32)
    return combined + combined * agreed


def _check(n_classes: int, masks: Sequence[NDArray[np.bool_]]) -> None:
    if not masks:
        raise ValueError("combining needs at least one mask")
    if len({mask.shape for mask in masks}) > 1 or len(masks[0]) != n_classes:
        raise ValueError(f"the CAM has {n_classes} classes, the masks {[mask.shape for mask in masks]}")
