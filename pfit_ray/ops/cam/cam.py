"""Class activation maps from a classifier's feature maps at several scales."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

CELL = 16
"""Output stride of the classifier: one cell of its feature map covers 16 x 16 pixels."""
EPSILON = 1e-5
"""Keeps the normalisation of an empty map finite."""


def scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Height and width times the scale, rounded half to even, at least 1."""
    return max(round(height * scale), 1), max(round(width * scale), 1)


def resize_image(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize an image uint8 (H, W, 3) to `size` = (height, width) by Pillow's antialiased bicubic filter."""
    height, width = size
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def resize_maps(maps: NDArray[np.generic], height: int, width: int) -> NDArray[np.float32]:
    """Resize maps (K, h, w) to float32 (K, height, width): bilinear, half-pixel centres, not antialiased."""
    resized = np.empty((len(maps), height, width), dtype=np.float32)
    for one, target in zip(maps, resized, strict=True):
        cv2.resize(one.astype(np.float32), (width, height), target, interpolation=cv2.INTER_LINEAR)
    return resized


def flip_sum(maps: NDArray[np.floating]) -> NDArray[np.float32]:
    """Add the activations of an image and of its mirror image.

    Args:
        maps: float (2, K, h, w), feature maps of the image and of the mirrored image; (1, K, h, w) when
            there is no mirrored image.

    Returns:
        float32 (K, h, w), relu(maps[0]) + mirror(relu(maps[1])).
    """
    active = np.maximum(maps, 0).astype(np.float32)
    return active[0] + active[1, :, :, ::-1] if len(active) == 2 else active[0]


def merge_cam_scales(maps: Sequence[NDArray[np.floating]], height: int, width: int) -> NDArray[np.float32]:
    """Sum the maps of all scales and divide each class by its maximum (PuzzleCAM, Jo and Yu, ICIP 2021).

    Args:
        maps: per scale, activations (K, h_s, w_s), not negative.
        height: height of the result; for the strided CAM of an image of height H it is ceil(H / 4).
        width: width of the result.

    Returns:
        float32 (K, height, width) in [0, 1]; the maximum of a class that is active is just below 1.

    Raises:
        ValueError: when there is no map.
    """
    return _normalise(_sum(maps, height, width))


def merge_hr_cam(maps: Sequence[NDArray[np.floating]], height: int, width: int, *, crop: bool) -> NDArray[np.float32]:
    """Sum the maps of all scales at image size and divide each class by its maximum.

    Args:
        maps: per scale, activations (K, h_s, w_s), not negative.
        height: height of the image.
        width: width of the image.
        crop: True resizes to the next multiples of 16 and crops, as published by PuzzleCAM, which stretches
            the maps by up to 15 pixels against the image; False resizes to the image.

    Returns:
        float32 (K, height, width) in [0, 1].

    Raises:
        ValueError: when there is no map.
    """
    if not crop:
        return merge_cam_scales(maps, height, width)
    total = _sum(maps, -(-height // CELL) * CELL, -(-width // CELL) * CELL)
    return _normalise(total[:, :height, :width])


def _sum(maps: Sequence[NDArray[np.floating]], height: int, width: int) -> NDArray[np.float32]:
    if not maps:
        raise ValueError("merging needs the maps of at least one scale")
    total = resize_maps(maps[0], height, width)
    for scale_maps in maps[1:]:
        total += resize_maps(scale_maps, height, width)
    return total


def _normalise(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    peaks = maps.max(axis=(1, 2), keepdims=True, initial=0)
    return maps / (peaks + np.float32(EPSILON))
