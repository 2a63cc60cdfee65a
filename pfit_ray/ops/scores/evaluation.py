"""Scores of label maps against ground truth, from confusion matrices that can be summed over images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pfit_ray.constants import BACKGROUND, IGNORE
from pfit_ray.ops.cam.thresholding import strongest_class

PUBLISHED_EPSILON = 1e-10


def confusion(prediction: NDArray[np.uint8], ground_truth: NDArray[np.uint8], n_classes: int) -> NDArray[np.int64]:
    """Count the pixels of each pair of true and predicted label.

    Args:
        prediction: uint8 (H, W): 0 = background, 1..n_classes, 255 = no prediction. A pixel without
            prediction counts as missed by its true class and as a false positive of none.
        ground_truth: uint8 (H, W): 0 = background, 1..n_classes, 255 = ignored.
        n_classes: number of foreground classes.

    Returns:
        int64 (n_classes + 1, n_classes + 2): rows are true labels, columns predicted ones; the last column
        counts the pixels without prediction. Matrices of several images add up.

    Raises:
        ValueError: when the maps differ in size or hold another label.
    """
    if prediction.shape != ground_truth.shape:
        sizes = f"{prediction.shape}, its ground truth {ground_truth.shape}"
        raise ValueError(f"the prediction is {sizes}: sizes must be equal")
    # Two labels of a byte make one index of two bytes; labels out of range are looked for in the small table.
    table = np.bincount((ground_truth.astype(np.uint16) << 8 | prediction).ravel(), minlength=2**16).reshape(256, 256)
    table = table[:IGNORE]
    _check_labels("prediction", np.flatnonzero(table[:, :IGNORE].any(axis=0)), n_classes)
    _check_labels("ground truth", np.flatnonzero(table.any(axis=1)), n_classes)
    return table[: n_classes + 1, [*range(n_classes + 1), IGNORE]].astype(np.int64)


def threshold_sweep(
    class_maps: NDArray[np.floating],
    keys: NDArray[np.integer],
    ground_truth: NDArray[np.uint8],
    thresholds: Sequence[float],
    n_classes: int,
) -> NDArray[np.int64]:
    """Confusion matrix of the thresholded class maps for every value of the background.

    A pixel is the strongest class (the first of equals) where that exceeds the threshold, else background.
    One histogram of how many thresholds each pixel exceeds serves all of them.

    Args:
        class_maps: floats (K, H, W), compared in float32.
        keys: class ids (K,) in 1..n_classes, in the order of `class_maps`.
        ground_truth: uint8 (H, W): 0 = background, 1..n_classes, 255 = ignored.
        thresholds: T values of the background, in any order.
        n_classes: number of foreground classes.

    Returns:
        int64 (T, n_classes + 1, n_classes + 2), one matrix as `confusion` makes it per threshold.

    Raises:
        ValueError: when the maps differ in size from the ground truth or a label is out of range.
    """
    if class_maps.shape[1:] != ground_truth.shape:
        sizes = f"{class_maps.shape[1:]}, the ground truth {ground_truth.shape}"
        raise ValueError(f"the maps are {sizes}: sizes must be equal")
    values, winners = strongest_class(class_maps)
    columns = np.array([BACKGROUND, *keys], dtype=np.intp)
    _check_labels("class maps", columns, n_classes)
    levels = np.array(thresholds, dtype=np.float32)
    order = levels.argsort(kind="stable")
    # Counted by the bytes of the ground truth and by place among the image's own classes; sorted into labels later.
    shape = (len(levels) + 1, 256, len(columns))
    cells = levels[order].searchsorted(values.ravel(), side="left")
    cells *= shape[1]
    cells += ground_truth.ravel()
    cells *= shape[2]
    cells += winners.ravel()
    table = np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape)[:, :IGNORE]
    _check_labels("ground truth", np.flatnonzero(table.any(axis=(0, 2))), n_classes)
    by_exceeded = np.zeros((len(levels) + 1, n_classes + 1, n_classes + 2), dtype=np.int64)
    by_exceeded[:, :, columns] = table[:, : n_classes + 1]
    # The threshold of rank r in ascending order is exceeded by the pixels that exceed more than r of them.
    foreground = by_exceeded[::-1].cumsum(axis=0)[::-1][1:]
    matrices = np.empty_like(foreground)
    matrices[order] = foreground
    matrices[:, :, BACKGROUND] += (by_exceeded.sum(axis=0) - matrices).sum(axis=2)
    return matrices


@dataclass(frozen=True)
class Scores:
    """Scores of a confusion matrix: ratios in [0, 1], arrays (n_classes + 1,) with the background first.

    Args:
        iou: intersection over union; NaN where the class is neither in the ground truth nor predicted.
        miou: mean of `iou` over the classes that occur; NaN where none does.
        miou_published: the same with absent classes as 0, as PuzzleCAM and PerimeterFit score.
        precision: true positives over predicted pixels; NaN where nothing was predicted.
        recall: true positives over true pixels; NaN where the class is not in the ground truth.
        fp: mean over all foreground classes of false positives over union, absent classes as 0.
        fn: mean over all foreground classes of false negatives over union, absent classes as 0.
    """

    iou: NDArray[np.float64]
    miou: float
    miou_published: float
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    fp: float
    fn: float


def scores(matrix: NDArray[np.integer]) -> Scores:
    """Scores of one confusion matrix or of the sum of several.

    Args:
        matrix: integers (n_classes + 1, n_classes + 2) as `confusion` makes them.

    Returns:
        See `Scores`.
    """
    hits = np.diagonal(matrix).astype(np.float64)
    true = matrix.sum(axis=1).astype(np.float64)
    predicted = matrix[:, : len(matrix)].sum(axis=0).astype(np.float64)
    union = true + predicted - hits
    iou = _ratio(hits, union)
    occurring = iou[~np.isnan(iou)]
    published_union = union + PUBLISHED_EPSILON
    return Scores(
        iou=iou,
        miou=float(occurring.mean()) if occurring.size else float("nan"),
        miou_published=float((hits / published_union).mean()),
        precision=_ratio(hits, predicted),
        recall=_ratio(hits, true),
        fp=float(((predicted - hits) / published_union)[1:].mean()),
        fn=float(((true - hits) / published_union)[1:].mean()),
    )


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)


def _check_labels(what: str, labels: NDArray[np.integer], n_classes: int) -> None:
    if labels.size and labels.max() > n_classes:
        raise ValueError(f"the {what} holds label {labels.max()}, but there are only {n_classes} classes")
