"""Pooled CAM and pooled walk: class maps averaged within regions."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Components = tuple[NDArray[np.int32], int]
"""Connected regions int32 (H, W), 0..count-1, and their count, as `connected_regions` gives them."""


def pool_hr_cam(hr_cam: NDArray[np.floating], sources: Sequence[Components], rounds: int = 1) -> NDArray[np.float32]:
    """Average the CAM within each connected region of each region source, then average over the sources.

    With R_s(p) the region of pixel p in source s of S, and |R| its pixels:

        pooled_k(p) = 1/S * sum over s of 1/|R_s(p)| * sum over q in R_s(p) of hr_cam_k(q)

    Pixels of one region get one value, so the seed has the borders of the regions. The mean of a class over the image
    does not change. A further round pools the pooled CAM: activation moves from region to region, as far as those of
    different sources overlap, and reaches the rest of an object that the CAM has found in part. Many rounds level the
    image. Not published; docs/research/results.md says what it is worth.

    Args:
        hr_cam: float (K, H, W), not negative.
        sources: connected regions of one or more sources, each (H, W).
        rounds: how often to pool, at least 1.

    Returns:
        float32 (K, H, W), in the range of `hr_cam`; sums are taken in float64.

    Raises:
        ValueError: when there is no source or round, or a size differs.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}, must be at least 1")
    if not sources:
        raise ValueError("pooling needs the regions of at least one source")
    for components, _ in sources:
        if components.shape != hr_cam.shape[1:]:
            raise ValueError(f"regions {components.shape} and hr_cam {hr_cam.shape} differ in height or width")
    pooled = _pooled(hr_cam, sources)
    for _ in range(rounds - 1):
        pooled = _pooled(pooled, sources)
    return pooled


def _pooled(hr_cam: NDArray[np.floating], sources: Sequence[Components]) -> NDArray[np.float32]:
    pooled = np.zeros(hr_cam.shape, dtype=np.float32)
    for components, count in sources:
        index = components.ravel()
        sizes = np.maximum(np.bincount(index, minlength=count), 1)
        for one, cam in zip(pooled, hr_cam, strict=True):
            means = np.bincount(index, weights=cam.ravel(), minlength=count) / sizes
            one += means.astype(np.float32)[components]
    pooled /= len(sources)
    return pooled


def pool_hr_walk(hr_walk: NDArray[np.floating], sources: Sequence[Components]) -> NDArray[np.float32]:
    """Average the walked map with its means within the regions of each region source.

    With R_s(p) the region of pixel p in source s of S, and |R| its pixels:

        pooled_k(p) = 1/(S + 1) * (hr_walk_k(p) + sum over s of 1/|R_s(p)| * sum over q in R_s(p) of hr_walk_k(q))

    The walk leaks over weak edges of AffinityNet, and its grid is four pixels wide. Regions have neither fault and pull
    the map back to the borders in the image. The map itself stays in the mean, so a region that spans an object and its
    background does not decide both. Not published; docs/research/results.md says what it is worth.

    Args:
        hr_walk: float (K, H, W), not negative.
        sources: connected regions of one or more sources, each (H, W).

    Returns:
        float32 (K, H, W), in the range of `hr_walk`.

    Raises:
        ValueError: when there is no source or a size differs.
    """
    pooled = pool_hr_cam(hr_walk, sources)
    pooled *= len(sources)
    pooled += hr_walk
    pooled /= len(sources) + 1
    return pooled
