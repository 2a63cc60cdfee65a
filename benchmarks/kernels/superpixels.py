"""Superpixels against scikit-image's."""

from collections.abc import Iterator

import numpy as np
import skimage.segmentation
from comparison import Comparison, peak_megabytes, photograph, timed_in_turn

from pfit_ray.ops.quickshift import quickshift

OPTIONS = {"kernel_size": 3.0, "max_dist": 6.0, "ratio": 0.29}
SECONDS = 0.35


def compare(device: str) -> Iterator[Comparison]:
    """Yield the row of quickshift."""
    image = photograph()
    theirs, ours = timed_in_turn(
        [
            lambda: skimage.segmentation.quickshift(image, rng=42, **OPTIONS),
            lambda: quickshift(image, seed=42, **OPTIONS),
        ],
        repeat=3,
    )
    same = np.array_equal(theirs.result, ours.result)
    yield Comparison(
        "quickshift",
        "scikit-image",
        theirs.seconds,
        ours.seconds,
        peak_megabytes(lambda: quickshift(image, seed=42, **OPTIONS)),
        "identical" if same else f"{(theirs.result != ours.result).mean():.2%} of pixels differ",
        f"<= {SECONDS} s, identical",
        same and ours.seconds <= SECONDS,
    )
