"""Region pictures and perimeter maps as the published PerimeterFit programs store them: JPEG, then Canny."""

import cv2
import numpy as np
from numpy.typing import NDArray

N_COLOURS = 256
MAX_JPEG_SIDE = 65_500
"""Longest side, in pixels, that libjpeg encodes."""


def colour_table(seed: int = 43) -> NDArray[np.uint8]:
    """Colours of the regions: uint8 (256, 3) BGR, values 0..254; a region's rank is its row."""
    table = np.random.RandomState(seed).randint(255, size=(N_COLOURS, 3))
    return table.astype(np.uint8)


def region_picture(labels: NDArray[np.uint8], *, seed: int = 43) -> NDArray[np.uint8]:
    """Paint every region with the colour of its rank.

    Args:
        labels: uint8 (H, W), 0..n-1.
        seed: seed of the colour table.

    Returns:
        uint8 (H, W, 3) BGR.
    """
    return colour_table(seed)[labels]


def encode_jpeg(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Encode an image as OpenCV writes JPEG by default: quality 95, colour at half resolution.

    Args:
        image: uint8 (H, W, 3) BGR or (H, W) grey.

    Returns:
        uint8 (N,), the bytes of the file.

    Raises:
        ValueError: when a side exceeds 65,500 pixels.
    """
    if max(image.shape[:2]) > MAX_JPEG_SIDE:
        raise ValueError(f"an image of shape {image.shape} cannot be stored as JPEG")
    encoded: NDArray[np.uint8] = cv2.imencode(".jpg", image)[1]
    return encoded


def jpeg_round_trip(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What is read again after an image was written by `encode_jpeg`: uint8, same shape."""
    return np.asarray(cv2.imdecode(encode_jpeg(image), cv2.IMREAD_UNCHANGED), dtype=np.uint8)


def smooth_grey(picture: NDArray[np.uint8], *, blur: int = 3) -> NDArray[np.uint8]:
    """Grey values of a region picture, smoothed: what Canny looks at.

    Args:
        picture: uint8 (H, W, 3) BGR.
        blur: side of the Gaussian kernel, in pixels, odd; 1 does not smooth.

    Returns:
        uint8 (H, W).
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.GaussianBlur(grey, (blur, blur), 0), dtype=np.uint8)


def canny_edges(picture: NDArray[np.uint8], *, low: float = 1, high: float = 50, blur: int = 3) -> NDArray[np.uint8]:
    """Canny edges of a region picture after smoothing.

    Args:
        picture: uint8 (H, W, 3) BGR, after its JPEG round trip.
        low: an edge goes on while the L1 gradient of the grey values is above it.
        high: an edge starts where the gradient is above it.
        blur: see `smooth_grey`.

    Returns:
        uint8 (H, W), 0 or 255.
    """
    edges: NDArray[np.uint8] = cv2.Canny(smooth_grey(picture, blur=blur), low, high)
    return edges


def canny_perimeter(
    picture: NDArray[np.uint8], *, low: float = 1, high: float = 50, blur: int = 3
) -> NDArray[np.uint8]:
    """Perimeter map as published: Canny edges, stored as JPEG and read again.

    Args:
        picture: uint8 (H, W, 3) BGR, after its JPEG round trip.
        low: see `canny_edges`.
        high: see `canny_edges`.
        blur: see `canny_edges`.

    Returns:
        uint8 (H, W), 0..255: near 255 on edges, near 0 elsewhere.
    """
    return jpeg_round_trip(canny_edges(picture, low=low, high=high, blur=blur))
