"""Maps of regions or labels: their perimeters, their numbering, their outlines."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from pfit_ray.constants import BACKGROUND
from pfit_ray.ops.cam.perimeter_fit import connected_regions


def perimeter_map(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Mark the pixels whose right or lower neighbour has another label.

    The line is one pixel wide and lies on the left or upper side of each border.

    Args:
        labels: integers (H, W).

    Returns:
        bool (H, W).
    """
    perimeter = np.zeros(labels.shape, dtype=bool)
    perimeter[:, :-1] = labels[:, 1:] != labels[:, :-1]
    perimeter[:-1] |= labels[1:] != labels[:-1]
    return perimeter


MAX_REGIONS = 1 << 16
"""Regions of a label map that 16 bits tell apart."""


def number_regions(labels: NDArray[np.integer]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Number the labels of a map 0..n-1, in their order.

    Args:
        labels: integers (H, W), 0 or larger; gaps between them are allowed.

    Returns:
        uint8 (H, W) where n is at most 256, else uint16.

    Raises:
        ValueError: when a label is negative, or n is above 65,536.
    """
    if labels.size and labels.min() < 0:
        raise ValueError(f"the label {labels.min()} is negative")
    top = int(labels.max(initial=0))
    if top <= 4 * labels.size + 256:  # a table of all labels is no larger than the image, about
        present = np.bincount(labels.ravel(), minlength=top + 1) > 0
        ranks = np.cumsum(present) - 1
        count, numbered = int(present.sum()), ranks[labels]
    else:
        found, inverse = np.unique(labels, return_inverse=True)
        count, numbered = len(found), inverse.reshape(labels.shape)
    if count > MAX_REGIONS:
        raise ValueError(f"the map has {count} regions, and at most {MAX_REGIONS} can be kept")
    return numbered.astype(np.uint8 if count <= 256 else np.uint16)


class Outline(NamedTuple):
    """The outer border of a connected region: its label, and the centres of its corner pixels, int (N, 2) as x, y."""

    label: int
    points: NDArray[np.int32]


def outlines(label_map: NDArray[np.uint8]) -> list[Outline]:
    """The outlines of all 4-connected regions of equal label, the larger ones first.

    Filled in this order over background, with their borders, they give the label map: a region inside another one is
    smaller, so it comes later. Background has an outline only where it may be a hole, so not at the image's border.

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
