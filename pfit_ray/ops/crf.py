"""Dense CRF: a label map or class probabilities pulled to the borders of the image."""

from dataclasses import dataclass

import numpy as np
import pydensecrf.densecrf as densecrf
from numpy.typing import NDArray

UNARY_FLOOR = 1e-5
"""Probabilities below it count as it, so that their negative logarithm stays finite."""


@dataclass(frozen=True, kw_only=True)
class LabelCrf:
    """Options of the dense CRF over a label map.

    Args:
        iterations: mean-field steps, 0 or more.
        gt_prob: probability in (0, 1) that the given label is right.
        gaussian_sxy: spatial width of the smoothness term, pixels, > 0.
        gaussian_compat: weight of the smoothness term, >= 0.
        bilateral_sxy: spatial width of the appearance term, pixels, > 0.
        bilateral_srgb: colour width of the appearance term, grey levels, > 0.
        bilateral_compat: weight of the appearance term, >= 0.
    """

    iterations: int = 10
    gt_prob: float = 0.7
    gaussian_sxy: float = 3.0
    gaussian_compat: float = 3.0
    bilateral_sxy: float = 50.0
    bilateral_srgb: float = 5.0
    bilateral_compat: float = 10.0


@dataclass(frozen=True, kw_only=True)
class SoftmaxCrf:
    """Options of the dense CRF over class probabilities; the fields mean what they mean in `LabelCrf`."""

    iterations: int = 10
    gaussian_sxy: float = 3.0
    gaussian_compat: float = 3.0
    bilateral_sxy: float = 80.0
    bilateral_srgb: float = 13.0
    bilateral_compat: float = 10.0


class DenseCrf:
    """The pairwise terms of one image, built once and used for any number of unaries.

    Gaussian and bilateral Potts terms with diagonal kernels and symmetric normalisation
    (Kraehenbuehl and Koltun, NIPS 2011).

    Args:
        image: uint8 (H, W, 3) RGB.
        n_labels: number of labels, at least 1.
        options: widths and weights of the two terms and the number of iterations.

    Raises:
        ValueError: when the image is not uint8 (H, W, 3).
    """

    def __init__(self, image: NDArray[np.uint8], n_labels: int, options: LabelCrf | SoftmaxCrf) -> None:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"the CRF needs a uint8 (H, W, 3) image, not {image.dtype} {image.shape}")
        self._shape = (n_labels, *image.shape[:2])
        self._iterations = options.iterations
        self._field = densecrf.DenseCRF2D(image.shape[1], image.shape[0], n_labels)
        self._field.addPairwiseGaussian(sxy=options.gaussian_sxy, compat=options.gaussian_compat)
        self._field.addPairwiseBilateral(
            sxy=options.bilateral_sxy,
            srgb=options.bilateral_srgb,
            rgbim=np.ascontiguousarray(image),
            compat=options.bilateral_compat,
        )

    def infer(self, unary: NDArray[np.float32]) -> NDArray[np.float32]:
        """Label distribution after the mean-field steps; without steps it is softmax(-unary).

        Args:
            unary: float32 (n_labels, H, W) energies (negative log probabilities).

        Returns:
            Q, float32 (n_labels, H, W), which sums to 1 over the labels.

        Raises:
            ValueError: when the unary has another size than the image and the labels.
        """
        if unary.shape != self._shape:
            raise ValueError(f"unary has shape {unary.shape}, image and labels have {self._shape}")
        self._field.setUnaryEnergy(np.ascontiguousarray(unary).reshape(self._shape[0], -1))
        return np.array(self._field.inference(self._iterations), dtype=np.float32).reshape(self._shape)


def label_unary(labels: NDArray[np.integer], n_labels: int, gt_prob: float) -> NDArray[np.float32]:
    """Unary energies of a label map.

    Args:
        labels: integers (H, W) in 0..n_labels-1.
        n_labels: number of labels, at least 1.
        gt_prob: probability of the given label; the others share the rest evenly.

    Returns:
        float32 (n_labels, H, W): -ln(gt_prob) at the given label and -ln((1 - gt_prob) / (n_labels - 1)) at
        the others.
    """
    others = -np.log((1.0 - gt_prob) / max(n_labels - 1, 1))
    unary = np.full((n_labels, *labels.shape), others, dtype=np.float32)
    np.put_along_axis(unary, labels[None].astype(np.intp), np.float32(-np.log(gt_prob)), axis=0)
    return unary


def softmax_unary(probabilities: NDArray[np.floating]) -> NDArray[np.float32]:
    """Unary energies of class probabilities: -ln(p), with p clipped to [1e-5, 1].

    Args:
        probabilities: floats (n_labels, H, W) in [0, 1].

    Returns:
        float32 (n_labels, H, W).
    """
    return -np.log(np.clip(probabilities, UNARY_FLOOR, 1.0)).astype(np.float32)


def label_crf(
    image: NDArray[np.uint8], labels: NDArray[np.integer], n_labels: int, options: LabelCrf
) -> NDArray[np.float32]:
    """Dense CRF over a label map.

    Args:
        image: uint8 (H, W, 3) RGB.
        labels: integers (H, W) in 0..n_labels-1.
        n_labels: number of labels, at least 1; with one label Q is 1 everywhere.
        options: see `LabelCrf`.

    Returns:
        Q, float32 (n_labels, H, W), which sums to 1 over the labels.

    Raises:
        ValueError: when the image is not uint8 (H, W, 3) or the labels have another size.
    """
    return DenseCrf(image, n_labels, options).infer(label_unary(labels, n_labels, options.gt_prob))


def softmax_crf(
    image: NDArray[np.uint8], probabilities: NDArray[np.floating], options: SoftmaxCrf
) -> NDArray[np.float32]:
    """Dense CRF over class probabilities.

    Args:
        image: uint8 (H, W, 3) RGB.
        probabilities: floats (n_labels, H, W) in [0, 1]; they need not sum to 1.
        options: see `SoftmaxCrf`.

    Returns:
        Q, float32 (n_labels, H, W), which sums to 1 over the labels.

    Raises:
        ValueError: when the image is not uint8 (H, W, 3) or the probabilities have another size.
    """
    return DenseCrf(image, len(probabilities), options).infer(softmax_unary(probabilities))
