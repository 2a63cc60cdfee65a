"""PerimeterFit masks: the regions that lie wholly inside a class's CAM, and the perimeters there."""

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label


def connected_regions(labels: NDArray[np.integer]) -> tuple[NDArray[np.int32], int]:
    """Split regions into 4-connected components of equal label.

    Args:
        labels: integers (H, W), 0 or larger.

    Returns:
        int32 (H, W) components 0..count-1 in the order of their first pixels, and the count.
    """
    components, count = label(labels.astype(np.int32), connectivity=1, background=-1, return_num=True)
    return components.astype(np.int32) - 1, int(count)


def fit_masks(
    components: NDArray[np.int32],
    count: int,
    perimeter: NDArray[np.bool_],
    hr_cam: NDArray[np.floating],
    *,
    threshold: float,
) -> NDArray[np.bool_]:
    """Fit the CAM of each class to the regions (PerimeterFit, Ostrowski, Prabakaran and Shafique 2023).

    The rough CAM of a class is where its CAM exceeds `threshold`. A component survives if the rough CAM
    covers all of it. The mask is the surviving components and the perimeters inside the rough CAM.

    Args:
        components: int32 (H, W), 0..count-1, of `connected_regions`.
        count: number of components.
        perimeter: bool (H, W).
        hr_cam: float (K, H, W).
        threshold: lower bound of the rough CAM, compared in the CAM's own precision; 0 or larger.

    Returns:
        bool (K, H, W).

    Raises:
        ValueError: when the sizes differ.
    """
    if not components.shape == perimeter.shape == hr_cam.shape[1:]:
        raise ValueError(
            f"components {components.shape}, perimeter {perimeter.shape} and hr_cam {hr_cam.shape} "
            "differ in height or width"
        )
    rough = hr_cam > threshold
    masks = rough & perimeter
    for mask, inside in zip(masks, rough, strict=True):
        alive = np.ones(count, dtype=bool)
        alive[components[~inside]] = False
        mask |= alive[components]
    return masks
