"""Ground truth drawn from COCO's annotations, which travel in the place of a mask's URL."""

import base64
import json
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pfit_ray.constants import BACKGROUND, IGNORE
from pfit_ray.data.images import MAX_MASK_PIXELS
from pfit_ray.errors import RowError

PREFIX = "coco:"
_LARGEST = 1 << 27
_FAR = 10
"""Corners of polygons lie at most so many image sides outside: pycocotools walks each edge pixel by pixel."""

Part = tuple[int, Any]
"""Class id, or 255 for a crowd, and a segmentation as COCO has it: polygons, or run lengths."""


def pack_masks(height: int, width: int, parts: list[Part]) -> str:
    """What `draw_masks` takes: the annotations of one image as a text; equal parts give equal texts."""
    document = json.dumps({"size": [height, width], "parts": parts}, separators=(",", ":"))
    return PREFIX + base64.b64encode(zlib.compress(document.encode(), 6)).decode()


def draw_masks(text: str, shape: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Draw the ground truth of one image.

    Args:
        text: as `pack_masks` gives it.
        shape: (H, W) that it must have; None takes any.

    Returns:
        uint8 (H, W): 0 where there is no part, the class id where all parts have the same one, and 255 where classes
        overlap or crowds lie.

    Raises:
        RowError: `bad_mask`, when it has another size or a part cannot be drawn.
    """
    packed = base64.b64decode(text.removeprefix(PREFIX))
    document = json.loads(zlib.decompressobj().decompress(packed, _LARGEST))
    height, width = document["size"]
    if shape is not None and (height, width) != shape:
        raise RowError(
            "bad_mask",
            f"the annotations are of an image of {width} x {height} pixels, and it has {shape[1]} x {shape[0]}",
        )
    if not 0 < height * width <= MAX_MASK_PIXELS:
        raise RowError("bad_mask", f"the annotations are of an image of {width} x {height} pixels")
    label = np.full((height, width), BACKGROUND, np.uint8)
    unsure = np.zeros((height, width), bool)
    for key, segmentation in document["parts"]:
        mask = draw_segmentation(segmentation, height, width)
        if key != IGNORE:
            unsure |= mask & (label != BACKGROUND) & (label != key)
        else:
            unsure |= mask
        label[mask] = key
    label[unsure] = IGNORE
    return label


def draw_segmentation(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    """One annotation's mask, bool (H, W), from polygons, or from run lengths, packed or not.

    Raises:
        RowError: `bad_mask`, when it is neither, or does not fit the image.
    """
    try:
        if isinstance(segmentation, dict):
            if list(segmentation["size"]) != [height, width]:
                raise ValueError(f"its size is {segmentation['size']}")
            counts = segmentation["counts"]
            return _drawn(_unpacked(counts.encode()) if isinstance(counts, str) else counts, height, width)
        rings = [np.asarray(ring, dtype=np.float64) for ring in segmentation]
        far = _FAR * max(height, width)
        for ring in rings:
            if ring.ndim != 1 or len(ring) < 6 or len(ring) % 2 or not (np.abs(ring) <= far).all():
                raise ValueError("a polygon needs three corners or more, near the image")
        merged = coco_mask.merge(coco_mask.frPyObjects([ring.tolist() for ring in rings], height, width))
        return _drawn(_unpacked(merged["counts"]), height, width)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise RowError("bad_mask", f"an annotation's segmentation cannot be drawn: {error}") from error


def _drawn(counts: list[int], height: int, width: int) -> NDArray[np.bool_]:
    runs = np.asarray(counts, dtype=np.int64)
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() != height * width:
        raise ValueError("its run lengths do not add up to the image's pixels")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape((width, height)).T  # COCO goes down the columns


def _unpacked(packed: bytes) -> list[int]:
    """The run lengths in COCO's packed form: five bits a sign, from the fourth on as differences to the last but one.

    pycocotools believes them, and fills what they leave open with whatever lies in memory.
    """
    runs: list[int] = []
    value = shift = 0
    for sign in packed:
        bits = sign - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("its run lengths are damaged")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs
