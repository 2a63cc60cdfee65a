"""A label map as polygons that, painted in their order, give the label map again."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from pfit_ray.constants import BACKGROUND
from pfit_ray.ops.cam.perimeter_fit import connected_regions


class Outline(NamedTuple):
    """The outer border of a connected region: its label, and the centres of its corner pixels, int (N, 2) as x, y."""

    label: int
    points: NDArray[np.int32]


def outlines(label_map: NDArray[np.uint8]) -> list[Outline]:
    """The outlines of all 4-connected regions of equal label, the larger ones first.

    Painted in this order over background, each with all that it surrounds and with its own border, they give the
    label map: a region inside another one is smaller, and so comes later. Background has an outline only where
    it may be a hole, which background at the image's border is not.

    Args:
        label_map: uint8 (H, W).

    Returns:
        Outlines by the pixels that they surround, descending, then by the region's first pixel.
    """
    components, count = connected_regions(label_map)
    border = np.zeros(count, dtype=bool)
    for side in (components[0], components[-1], components[:, 0], components[:, -1]):
        border[side] = True
    found: list[tuple[int, int, Outline]] = []
    for number, (rows, columns) in enumerate(find_objects(components + 1)):
        top, left = rows.start, columns.start
        inside = components[rows, columns] == number
        first = np.unravel_index(inside.argmax(), inside.shape)
        label = int(label_map[top + int(first[0]), left + int(first[1])])
        if label == BACKGROUND and border[number]:
            continue
        mask = inside.astype(np.uint8)
        (points,), _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(mask, [points], -1, 1, cv2.FILLED)
        found.append((-int(mask.sum()), number, Outline(label, points[:, 0] + np.array([left, top], dtype=np.int32))))
    return [outline for _, _, outline in sorted(found, key=lambda one: one[:2])]
