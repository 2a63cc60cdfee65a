"""Pooled CAM, doubled where the PerimeterFit masks agree."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pfit_ray.ops.cam.combine import combine_cam, combine_hr_cam
from pfit_ray.ops.cam.pool import pool_cam


def pool_fit_hr_cam(pooled_hr_cam: NDArray[np.floating], masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.float32]:
    """Double the pooled CAM where all masks agree.

        pool_fit_k(p) = pooled_k(p) * (1 + product over s of mask_sk(p))

    The masks are those of the CAM as it was before it was pooled.

    Args:
        pooled_hr_cam: float (K, H, W) in [0, 1] of `pool_hr_cam`.
        masks: one or more bool (K, H, W).

    Returns:
        float32 (K, H, W) in [0, 2].

    Raises:
        ValueError: when there is no mask or a size differs.
    """
    return combine_hr_cam(pooled_hr_cam, masks)


def pool_fit_cam(
    pooled_hr_cam: NDArray[np.floating], masks: Sequence[NDArray[np.bool_]], height: int, width: int
) -> NDArray[np.float32]:
    """The same on the strided grid: both the pooled CAM and each mask are resized to it.

    Args:
        pooled_hr_cam: float (K, H, W) of `pool_hr_cam`.
        masks: one or more bool (K, H, W).
        height: h of the strided CAM.
        width: w of the strided CAM.

    Returns:
        float32 (K, h, w) in [0, 2].

    Raises:
        ValueError: when there is no mask or a size differs.
    """
    return combine_cam(pool_cam(pooled_hr_cam, height, width), masks)
