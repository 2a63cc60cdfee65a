"""A threshold for class activation maps without ground truth to choose it by."""

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_li, threshold_otsu

LEVELS = 1000
"""Bins of the histogram of values in [0, 1]."""


class ValueHistogram:
    """Counts how strong the strongest class is, over the cells of many maps, with constant memory."""

    def __init__(self) -> None:
        self.counts = np.zeros(LEVELS, dtype=np.int64)
        self.maps = 0

    def add(self, cam: NDArray[np.floating]) -> None:
        """Count the maps of one image, floats (K, h, w) in [0, 1]; an image without classes does not count."""
        if len(cam) == 0:
            return
        strongest = cam.max(axis=0).astype(np.float64).clip(0.0, 1.0)
        self.counts += np.bincount((strongest * (LEVELS - 1)).round().astype(np.intp).ravel(), minlength=LEVELS)
        self.maps += 1

    def threshold(self) -> float | None:
        """The suggested value of the background: the mean of two thresholds of the cells' histogram.

        Otsu's threshold (1979) has the largest variance between the two groups; that of Li and Lee (1993, minimum
        cross-entropy) lets more be foreground. On CAMs the best threshold is between them; benchmarks/threshold.py
        shows the loss.

        Returns:
            In (0, 1), to two digits; None where there are no maps, or all cells are equal.
        """
        both = self.otsu_and_li()
        return None if both is None else round(sum(both) / 2, 2)

    def otsu_and_li(self) -> tuple[float, float] | None:
        """The two thresholds; None where there are no maps, or all cells are equal."""
        if np.count_nonzero(self.counts) < 2:
            return None
        centres = np.arange(LEVELS) / (LEVELS - 1)
        # skimage takes pixels, not counts: as many of each value as its share of a million, at least one.
        share = np.ceil(self.counts * (1_000_000 / self.counts.sum())).astype(np.intp)
        li = threshold_li(np.repeat(centres, share))
        return float(threshold_otsu(hist=(self.counts, centres))), float(li)
