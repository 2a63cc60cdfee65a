"""PerimeterFit masks as the published programs compute them: flood fills of a region picture."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

TOLERANCE = 10
"""Largest L1 distance between two colours that a flood fill takes for one."""


@njit(cache=True, nogil=True)
def flood_fill(picture: NDArray[np.uint8], row: int, column: int, tolerance: int, stack: NDArray[np.int64]) -> None:
    """Fill the surroundings of a seed with black, in place, exactly as Pillow's `ImageDraw.floodfill` does.

    The fill passes through 4-neighbours whose colour is within `tolerance` (L1) of the seed's own first colour. A seed
    within `tolerance` of black fills nothing. `stack` has room for one entry per pixel.
    """
    height, width, _ = picture.shape
    red, green, blue = np.int64(0), np.int64(0), np.int64(0)
    red += picture[row, column, 0]
    green += picture[row, column, 1]
    blue += picture[row, column, 2]
    if red + green + blue <= tolerance:
        return
    picture[row, column] = 0
    stack[0] = row * width + column
    top = 1
    while top > 0:
        top -= 1
        row, column = divmod(stack[top], width)
        for side in range(4):
            y = row + (side == 0) - (side == 1)
            x = column + (side == 2) - (side == 3)
            if y < 0 or x < 0 or y >= height or x >= width:
                continue
            distance = abs(picture[y, x, 0] - red) + abs(picture[y, x, 1] - green)
            distance += abs(picture[y, x, 2] - blue)
            if distance <= tolerance:
                picture[y, x] = 0
                stack[top] = y * width + x
                top += 1


@njit(cache=True, nogil=True)
def _kill_outside(picture: NDArray[np.uint8], rough: NDArray[np.bool_], tolerance: int) -> None:
    """Flood in place from every pixel outside the rough CAM, in reading order.

    The last row and the last column are never seeds, as published.
    """
    height, width = rough.shape
    stack = np.empty(height * width, dtype=np.int64)
    for row in range(height - 1):
        for column in range(width - 1):
            if not rough[row, column]:
                flood_fill(picture, row, column, tolerance, stack)


def reference_fit_masks(
    picture: NDArray[np.uint8],
    perimeter: NDArray[np.uint8],
    hr_cam: NDArray[np.floating],
    *,
    cam_threshold: float,
    edge_threshold: int,
    clip_to_cam: bool,
    tolerance: int = TOLERANCE,
) -> NDArray[np.bool_]:
    """Fit the CAM of each class to the regions as the published PerimeterFit programs do.

    Regions are known only by their colours, which JPEG has blurred. A fill reaches what resembles its first seed, so
    the result depends on the order of the seeds: the rows from the top, each from the left. The published rules are
    `cam_threshold` 0.05, `edge_threshold` 250, `clip_to_cam` for SLIC and 0, 200, not clipped for quickshift.

    Args:
        picture: uint8 (H, W, 3) region picture, after its JPEG round trip; the channel order has no effect.
        perimeter: uint8 (H, W) perimeter map, after its JPEG round trip.
        hr_cam: float (K, H, W).
        cam_threshold: lower bound of the rough CAM, compared in the CAM's own precision.
        edge_threshold: perimeter pixels are brighter than this.
        clip_to_cam: whether perimeters (and what survives in the last row and column) outside the rough
            CAM are left out of the mask.
        tolerance: largest L1 distance of colours that a fill passes.

    Returns:
        bool (K, H, W).

    Raises:
        ValueError: when the sizes differ.
    """
    if not picture.shape[:2] == perimeter.shape == hr_cam.shape[1:]:
        raise ValueError(
            f"picture {picture.shape}, perimeter {perimeter.shape} and hr_cam {hr_cam.shape} differ in height or width"
        )
    brightest = max(int(picture.max()), 1)
    stretched = (picture / brightest * 255).astype(np.uint8)
    edges = perimeter > edge_threshold
    rough = hr_cam > cam_threshold
    masks = np.empty(rough.shape, dtype=bool)
    for mask, inside in zip(masks, rough, strict=True):
        canvas = stretched.copy()
        _kill_outside(canvas, inside, tolerance)
        mask[:] = (canvas[..., 0] | canvas[..., 1] | canvas[..., 2]) > 0  # any(axis=2) takes ten times as long
        mask |= edges
    return masks & rough if clip_to_cam else masks
