"""Pseudo labels: the walked class maps, thresholded and refined."""

import numpy as np
from numpy.typing import NDArray

from pfit_ray.ops.cam.thresholding import label_ids, threshold_classes
from pfit_ray.ops.crf.crf import LabelCrf, label_crf


def pseudo_label(
    image: NDArray[np.uint8],
    class_maps: NDArray[np.floating],
    keys: NDArray[np.integer],
    *,
    threshold: float,
    crf: LabelCrf,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Label map of the strongest class where it exceeds the background's value.

    Args:
        image: uint8 (H, W, 3) RGB.
        class_maps: floats (K, H, W) in [0, 1], usually the walked maps.
        keys: class ids (K,) in 1..254, in the order of `class_maps`.
        threshold: value of the background, which wins ties.
        crf: options of the dense CRF; 0 iterations leave it out.

    Returns:
        (label, raw): two uint8 (H, W) maps of class ids, 0 = background, with and without the CRF;
        without classes both are 0 everywhere. No pixel is ignored.

    Raises:
        ValueError: when the CRF gets an image that is not uint8 (H, W, 3) or has another size than the maps.
    """
    winners = threshold_classes(class_maps, threshold)
    ids = label_ids(keys)
    raw = ids[winners]
    if len(keys) == 0 or crf.iterations == 0:
        return raw.copy(), raw
    return ids[label_crf(image, winners, len(ids), crf).argmax(axis=0)], raw
