"""Superpixels: ours against scikit-image's, whose labels they must equal."""

from collections.abc import Callable, Iterator

import numpy as np
from comparison import Comparison, peak_megabytes, photograph, timed_in_turn
from skimage.segmentation import quickshift, slic

from pfit_ray.ops.superpixels.superpixels import quickshift_superpixels, slic_superpixels

SLIC_SECONDS = 0.15
QUICKSHIFT_SECONDS = 0.35


def compare(device: str) -> Iterator[Comparison]:
    """Yield the rows of SLIC and quickshift."""
    image = photograph()
    yield _row("SLIC", _library_slic, slic_superpixels, image, SLIC_SECONDS)
    yield _row("quickshift", _library_quickshift, quickshift_superpixels, image, QUICKSHIFT_SECONDS)


def _library_slic(image: np.ndarray) -> np.ndarray:
    return slic(image, n_segments=1000, compactness=15, sigma=1, start_label=1)


def _library_quickshift(image: np.ndarray) -> np.ndarray:
    return quickshift(image, kernel_size=3, max_dist=6, ratio=0.29)


def _row(
    name: str,
    library: Callable[[np.ndarray], np.ndarray],
    ours: Callable[[np.ndarray], np.ndarray],
    image: np.ndarray,
    target: float,
) -> Comparison:
    slow, fast = timed_in_turn([lambda: library(image), lambda: ours(image)])
    equal = np.array_equal(slow.result, fast.result)
    return Comparison(
        f"{name} superpixels",
        "scikit-image",
        slow.seconds,
        fast.seconds,
        peak_megabytes(lambda: ours(image)),
        "identical" if equal else "different",
        f"<= {target} s",
        equal and fast.seconds <= target,
    )
