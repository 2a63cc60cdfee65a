"""From class maps to label maps: affinity labels and pseudo labels."""

import numpy as np
from numpy.typing import NDArray

from pfit_ray.constants import BACKGROUND, IGNORE
from pfit_ray.ops.cam.thresholding import label_ids, threshold_classes
from pfit_ray.ops.crf.crf import DenseCrf, LabelCrf, label_crf, label_unary


def affinity_label(
    image: NDArray[np.uint8],
    hr_cam: NDArray[np.floating],
    keys: NDArray[np.integer],
    *,
    fg_threshold: float,
    bg_threshold: float,
    crf: LabelCrf,
) -> NDArray[np.uint8]:
    """Sure foreground, sure background and unsure pixels (Ahn, Cho and Kwak, CVPR 2019).

    The map is labelled twice, with a high and a low background value, and the dense CRF refines each labelling. A class
    that wins against the high value is sure. Background that wins even with the low value is sure. Everything else is
    unsure.

    Args:
        image: uint8 (H, W, 3) RGB.
        hr_cam: floats (K, H, W), usually the combined map in [0, 2].
        keys: class ids (K,) in 1..254, in the order of `hr_cam`.
        fg_threshold: background value that sure foreground exceeds.
        bg_threshold: background value that sure background keeps.
        crf: options of the dense CRF; 0 iterations leave it out.

    Returns:
        uint8 (H, W): class id, 0 = sure background, 255 = unsure; without classes 0 everywhere.

    Raises:
        ValueError: when the CRF gets an image that is not uint8 (H, W, 3) or has another size than `hr_cam`.
    """
    if len(keys) == 0:
        return np.full(hr_cam.shape[1:], BACKGROUND, dtype=np.uint8)
    labelings = [threshold_classes(hr_cam, threshold) for threshold in (fg_threshold, bg_threshold)]
    if crf.iterations > 0:
        n_labels = len(keys) + 1
        unaries = [label_unary(labels, n_labels, crf.gt_prob) for labels in labelings]
        labelings = [q.argmax(axis=0) for q in DenseCrf(image, n_labels, crf).infer_all(unaries)]
    sure_class, sure_background = labelings
    label = label_ids(keys)[sure_class]
    label[(sure_class == 0) & (sure_background != 0)] = IGNORE
    return label


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
