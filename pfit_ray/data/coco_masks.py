"""Ground truth drawn from annotations of COCO, CVAT or LabelMe, which take the place of a mask's URL."""

import base64
import json
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from pfit_ray.constants import BACKGROUND, IGNORE
from pfit_ray.data.images import MAX_MASK_PIXELS, decode_mask
from pfit_ray.errors import RowError

PREFIX = "coco:"
_LARGEST = 1 << 27
_FAR = 10
"""Most image sides that a polygon's corner may lie outside: pycocotools walks each edge pixel by pixel."""

Annotation = tuple[int, Any]
"""Class id, or 255 for a crowd, and a segmentation as `draw_segmentation` takes it."""

OUTLINES = ("polygon", "oriented_rectangle", "rectangle", "circle")
"""LabelMe's shapes that have an area."""


def pack_masks(height: int, width: int, annotations: list[Annotation], painted: bool = False) -> str:
    """What `draw_masks` takes: the annotations of one image as a text; equal annotations give equal texts.

    Args:
        height: of the image.
        width: of the image.
        annotations: in their order.
        painted: later annotations lie over earlier ones.
    """
    told = {"size": [height, width], "parts": annotations} | ({"painted": True} if painted else {})
    document = json.dumps(told, separators=(",", ":"))
    return PREFIX + base64.b64encode(zlib.compress(document.encode(), 6)).decode()


def draw_masks(text: str, shape: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Draw the ground truth of one image.

    Args:
        text: as `pack_masks` gives it.
        shape: (H, W) that it must have; None takes any.

    Returns:
        uint8 (H, W): 0 where there is no annotation, the class id where all have the same one, and 255 where classes
        overlap or crowds lie. Painted annotations do not overlap: the last one counts.

    Raises:
        RowError: `bad_mask`, when it has another size or an annotation cannot be drawn.
    """
    packed = base64.b64decode(text.removeprefix(PREFIX))
    document = json.loads(zlib.decompressobj().decompress(packed, _LARGEST))
    height, width = document["size"]
    if shape is not None and (height, width) != shape:
        raise RowError(
            "bad_mask",
            f"the annotations are for {width} x {height} pixels, but the image has {shape[1]} x {shape[0]}",
        )
    if not 0 < height * width <= MAX_MASK_PIXELS:
        raise RowError("bad_mask", f"the annotations are of an image of {width} x {height} pixels")
    label = np.full((height, width), BACKGROUND, np.uint8)
    unsure = np.zeros((height, width), bool)
    for key, segmentation in document["parts"]:
        mask = draw_segmentation(segmentation, height, width)
        if document.get("painted"):
            pass
        elif key != IGNORE:
            unsure |= mask & (label != BACKGROUND) & (label != key)
        else:
            unsure |= mask
        label[mask] = key
    label[unsure] = IGNORE
    return label


def draw_segmentation(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    """One annotation's mask, bool (H, W).

    Args:
        segmentation: COCO's polygons, or its run lengths, packed or not; CVAT's run lengths, which go along the rows of
            a `box` of left, top, width, height; LabelMe's points and what `outline` they are of, or its mask, a `png`
            in base64 and its upper left `corner`.
        height: of the image.
        width: of the image.

    Raises:
        RowError: `bad_mask`, when it is neither, or does not fit the image.
    """
    try:
        if isinstance(segmentation, dict) and "size" not in segmentation:
            return _placed(segmentation, height, width)
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


def _placed(segmentation: dict[str, Any], height: int, width: int) -> NDArray[np.bool_]:
    """The mask of a shape of CVAT or LabelMe."""
    mask = np.zeros((height, width), bool)
    if "outline" in segmentation:
        return _outlined(segmentation["outline"], np.asarray(segmentation["points"], dtype=np.float64), mask)
    if "box" in segmentation:
        left, top, columns, rows = segmentation["box"]
        if not (0 <= left <= left + columns <= width and 0 <= top <= top + rows <= height):
            raise ValueError(f"its box {segmentation['box']} is not inside the image")
        inside = _drawn(segmentation["runs"], columns, rows).T
    else:
        left, top = (int(side) for side in segmentation["corner"])
        inside = decode_mask(base64.b64decode(segmentation["png"])) > 0
        if left < 0 or top < 0:
            raise ValueError(f"its corner {segmentation['corner']} is not inside the image")
        inside = inside[: max(0, height - top), : max(0, width - left)]
    mask[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return mask


def _outlined(kind: str, points: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A shape with its border, as LabelMe paints it."""
    two = kind in ("rectangle", "circle")
    if points.ndim != 2 or points.shape[1] != 2 or (len(points) != 2 if two else len(points) < 3):
        raise ValueError(f"a {kind} needs {'two points' if two else 'three points or more'}")
    if not (np.abs(points) <= _FAR * max(mask.shape)).all():
        raise ValueError("its points are far outside the image")
    picture = Image.fromarray(mask.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    if kind == "circle":
        radius = float(np.hypot(*(points[1] - points[0])))
        draw.ellipse((*(points[0] - radius), *(points[0] + radius)), fill=1, outline=1)
    elif kind == "rectangle":
        draw.rectangle((*points.min(axis=0), *points.max(axis=0)), fill=1, outline=1)
    else:
        draw.polygon([tuple(point) for point in points.tolist()], fill=1, outline=1)
    return np.asarray(picture) > 0


def _drawn(counts: list[int], height: int, width: int) -> NDArray[np.bool_]:
    runs = np.asarray(counts, dtype=np.int64)
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() != height * width:
        raise ValueError("its run lengths do not add up to the image's pixels")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape((width, height)).T  # COCO goes down the columns


def _unpacked(packed: bytes) -> list[int]:
    """The run lengths in COCO's packed form: five bits a sign, from the fourth on as differences to the last but one.

    pycocotools trusts them, and fills what they leave open with whatever is in memory.
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
