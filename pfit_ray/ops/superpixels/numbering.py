"""Labels without gaps."""

import numpy as np
from numpy.typing import NDArray

MAX_REGIONS = 1 << 16
"""Regions of a label map that 16 bits tell apart."""


def number_regions(labels: NDArray[np.integer]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Number the labels of a map 0..n-1, in their order.

    Args:
        labels: integers (H, W), 0 or larger; gaps between them are allowed.

    Returns:
        uint8 (H, W) where n is at most 256, else uint16.

    Raises:
        ValueError: when a label is negative, or n is above 65,536.
    """
    if labels.size and labels.min() < 0:
        raise ValueError(f"the label {labels.min()} is negative")
    top = int(labels.max(initial=0))
    if top <= 4 * labels.size + 256:  # a table of all labels is no larger than the image, about
        present = np.bincount(labels.ravel(), minlength=top + 1) > 0
        ranks = np.cumsum(present) - 1
        count, numbered = int(present.sum()), ranks[labels]
    else:
        found, inverse = np.unique(labels, return_inverse=True)
        count, numbered = len(found), inverse.reshape(labels.shape)
    if count > MAX_REGIONS:
        raise ValueError(f"the map has {count} regions, and at most {MAX_REGIONS} can be kept")
    return numbered.astype(np.uint8 if count <= 256 else np.uint16)
