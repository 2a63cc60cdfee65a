"""PerimeterFit masks, lossless: slic and quickshift regions of one photograph, two classes."""

from collections.abc import Iterator

import numpy as np
from comparison import HEIGHT, WIDTH, Comparison, peak_megabytes, photograph, timed_in_turn

from pfit_ray.ops.perimeter import perimeter_map
from pfit_ray.ops.perimeter_fit import connected_regions, fit_masks
from pfit_ray.ops.superpixels import quickshift_superpixels, slic_superpixels

REGIONS = 18
SECONDS = 0.015


def rough_cam() -> np.ndarray:
    """Two smooth blobs (2, H, W) in [0, 1]."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / WIDTH
    centres = [(0.3, 0.4), (0.5, 0.7)]
    return np.stack([np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 0.03) for cy, cx in centres]).astype(np.float32)


def fit_all(regions: list[np.ndarray], cam: np.ndarray) -> list[np.ndarray]:
    """What the stages `perimeter` and `fit` do for one photograph."""
    masks = []
    for labels, threshold in zip(regions, (0.05, 0.0), strict=True):
        components, count = connected_regions(labels)
        masks.append(fit_masks(components, count, perimeter_map(labels), cam, threshold=threshold))
    return masks


def fit_one_by_one(regions: list[np.ndarray], cam: np.ndarray) -> list[np.ndarray]:
    """The same, component by component and class by class."""
    masks = []
    for labels, threshold in zip(regions, (0.05, 0.0), strict=True):
        perimeter = perimeter_map(labels)
        found = np.zeros(cam.shape, dtype=bool)
        for mask, values in zip(found, cam, strict=True):
            components, count = connected_regions(labels)
            for component in range(count):
                inside = components == component
                mask[inside] = (values[inside] > threshold).all()
            mask |= perimeter & (values > threshold)
        masks.append(found)
    return masks


def compare(device: str) -> Iterator[Comparison]:
    """Yield the row of the masks."""
    image, cam = photograph(), rough_cam()
    cam[cam < 0.1] = 0.0
    groups = np.random.default_rng(0).integers(0, REGIONS, 2000).astype(np.uint8)
    regions = [groups[superpixels(image)] for superpixels in (slic_superpixels, quickshift_superpixels)]
    (slow,) = timed_in_turn([lambda: fit_one_by_one(regions, cam)], repeat=1, warm_up=0)
    (ours,) = timed_in_turn([lambda: fit_all(regions, cam)], repeat=10)
    same = all(np.array_equal(one, other) for one, other in zip(slow.result, ours.result, strict=True))
    yield Comparison(
        "fit masks, lossless, slic + quickshift, 2 classes",
        "loop over components",
        slow.seconds,
        ours.seconds,
        peak_megabytes(lambda: fit_all(regions, cam)),
        "identical" if same else "different",
        f"<= {SECONDS * 1e3:g} ms",
        same and ours.seconds <= SECONDS,
    )
