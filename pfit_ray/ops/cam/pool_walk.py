"""Pooled walk: the walked map together with its means within regions."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pfit_ray.ops.cam.pool import Components, pool_hr_cam


def pool_hr_walk(hr_walk: NDArray[np.floating], sources: Sequence[Components]) -> NDArray[np.float32]:
    """Average the walked map with its means within the regions of each region source.

    With R_s(p) the region of pixel p in source s of S, and |R| its pixels:

        pooled_k(p) = 1/(S + 1) * (hr_walk_k(p) + sum over s of 1/|R_s(p)| * sum over q in R_s(p) of hr_walk_k(q))

    The walk leaks over weak edges of AffinityNet, and its grid is four pixels wide: regions, which know neither, pull
    the map back to the borders in the photograph. The map itself stays in the mean, so that a region that spans an
    object and its background does not settle both. Not published; docs/results.md tells what it is worth.

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
