"""Boundary IoU: how well the borders of label maps lie on those of the ground truth."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pfit_ray.constants import IGNORE

DILATION_RATIO = 0.02
"""Width of the band, as a share of the image's diagonal, that Cheng et al. use."""


def boundary_band(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """The pixels of a mask that are near its border: those that an erosion by `width` pixels removes.

    The outside of the image counts as outside of the mask (Cheng, Girshick, Dollár, Berg, Kirillov, "Boundary IoU",
    CVPR 2021).

    Args:
        mask: bool (H, W).
        width: pixels, 1 or more; distances are the larger of rows and columns.

    Returns:
        bool (H, W).
    """
    framed = np.pad(mask.astype(np.uint8), 1)
    # `width` erosions by 3 x 3 are one by a square; without padding the frame would be taken for the mask's inside.
    square = np.ones((2 * width + 1, 2 * width + 1), dtype=np.uint8)
    inside = cv2.erode(framed, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)[1:-1, 1:-1]
    return mask & (inside == 0)


def band_width(height: int, width: int, ratio: float = DILATION_RATIO) -> int:
    """Width of the band for an image, pixels: a share of its diagonal, at least 1."""
    return max(1, round(ratio * float(np.hypot(height, width))))


class BoundaryCounter:
    """Counts the pixels in the bands of one image's ground truth and of label maps over it.

    Ignored pixels are taken out of both maps first, so a label map that equals the ground truth elsewhere has the same
    bands.

    Args:
        ground_truth: uint8 (H, W): 0 = background, 1..n_classes, 255 = ignored.
        n_classes: number of foreground classes.
        ratio: width of the bands as a share of the image's diagonal.
    """

    def __init__(self, ground_truth: NDArray[np.uint8], n_classes: int, ratio: float = DILATION_RATIO) -> None:
        self.n_classes = n_classes
        self.width = band_width(ground_truth.shape[0], ground_truth.shape[1], ratio)
        self.valid = ground_truth != IGNORE
        self.ground_truth = {
            int(key): boundary_band(ground_truth == key, self.width) for key in np.unique(ground_truth[self.valid])
        }

    def count(self, prediction: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Pixels in both bands, in the ground truth's, and in the prediction's.

        Args:
            prediction: uint8 (H, W) as for `pfit_ray.ops.scores.evaluation.confusion`.

        Returns:
            int64 (n_classes + 1, 3), the background first; counts of several images add up.
        """
        counts = np.zeros((self.n_classes + 1, 3), dtype=np.int64)
        for key, band in self.ground_truth.items():
            counts[key, 1] = np.count_nonzero(band)
        for key in np.unique(prediction[self.valid]).tolist():
            if key == IGNORE:
                continue
            band = boundary_band((prediction == key) & self.valid, self.width)
            counts[key, 2] = np.count_nonzero(band)
            if key in self.ground_truth:
                counts[key, 0] = np.count_nonzero(band & self.ground_truth[key])
        return counts
