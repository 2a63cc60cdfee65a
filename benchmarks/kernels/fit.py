"""Perimeters and PerimeterFit masks without loss, against Pillow's fills as the published programs use them."""

from collections.abc import Iterator

import numpy as np
from comparison import HEIGHT, WIDTH, Comparison, peak_megabytes, photograph, timed
from PIL import Image, ImageDraw

from pfit_ray.ops.cam.perimeter_fit import connected_regions, fit_masks
from pfit_ray.ops.regions.region_maps import perimeter_map
from pfit_ray.ops.superpixels.superpixels import quickshift_superpixels, slic_superpixels

REGIONS = 18
"""A photograph has about this many regions."""
THRESHOLDS = (0.05, 0.0)
"""Lower bounds of the rough CAM, over SLIC and over quickshift."""
SECONDS = 0.015


def compare(device: str) -> Iterator[Comparison]:
    """Yield the row of both region maps together."""
    image = photograph()
    maps = [regions(superpixels, image) for superpixels in (slic_superpixels(image), quickshift_superpixels(image))]
    cams = smooth_cams()
    slow = timed(lambda: filled_masks(maps, cams), repeat=1, warm_up=0)
    fast = timed(lambda: masks(maps, cams))
    equal = all(np.array_equal(theirs, ours) for theirs, ours in zip(slow.result, fast.result, strict=True))
    yield Comparison(
        "perimeters and masks over SLIC and quickshift, background and 2 classes",
        "one Pillow fill per seed",
        slow.seconds,
        fast.seconds,
        peak_megabytes(lambda: masks(maps, cams)),
        "identical" if equal else "different",
        f"<= {SECONDS * 1000:.0f} ms",
        equal and fast.seconds <= SECONDS,
    )


def masks(maps: list[np.ndarray], cams: np.ndarray) -> list[np.ndarray]:
    """Masks (K, H, W) of each region map; its connected regions are found once for all classes."""
    found = []
    for labels, threshold in zip(maps, THRESHOLDS, strict=True):
        components, count = connected_regions(labels)
        found.append(fit_masks(components, count, perimeter_map(labels), cams, threshold=threshold))
    return found


def filled_masks(maps: list[np.ndarray], cams: np.ndarray) -> list[np.ndarray]:
    """The same: from each pixel outside the rough CAM its region is filled with 0, and what is left fits."""
    found = []
    for labels, threshold in zip(maps, THRESHOLDS, strict=True):
        below, right = np.roll(labels, -1, axis=0), np.roll(labels, -1, axis=1)
        below[-1], right[:, -1] = labels[-1], labels[:, -1]
        perimeter = (below != labels) | (right != labels)
        found.append(np.empty(cams.shape, dtype=bool))
        for mask, rough in zip(found[-1], cams > threshold, strict=True):
            picture = Image.fromarray(labels + np.uint8(1)).copy()  # one that may be written to
            for row, column in np.argwhere(~rough).tolist():
                if picture.getpixel((column, row)):
                    ImageDraw.floodfill(picture, (column, row), 0)
            mask[:] = (np.asarray(picture) > 0) | (perimeter & rough)
    return found


def regions(superpixels: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Superpixels of the same mean grey, in REGIONS steps, as one region: uint8 (H, W)."""
    flat = superpixels.ravel()
    grey = np.bincount(flat, image.mean(axis=2).ravel()) / np.maximum(np.bincount(flat), 1)
    return (grey * (REGIONS / 256)).astype(np.uint8)[superpixels]


def smooth_cams() -> np.ndarray:
    """Background, which has no CAM, and two blobs: float32 (3, H, W) in [0, 1], with exact zeros around."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / WIDTH
    blobs = [np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 0.03) for cy, cx in ((0.3, 0.4), (0.5, 0.7))]
    cams = np.stack([np.zeros_like(blobs[0]), *blobs]).astype(np.float32)
    cams[cams < 0.02] = 0
    return cams
