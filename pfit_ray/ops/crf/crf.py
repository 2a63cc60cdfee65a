"""Dense CRF: a label map or class probabilities pulled to the borders of the image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfit_ray.constants import CrfEngine
from pfit_ray.ops.crf.mean_field import PairwiseTerm, mean_field

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
        engine: native is our own; pydensecrf is that of the published programs, an optional extra. Both compute the
            same filters; rounding leaves less than 1e-3 in Q, and up to 1e-2 at single pixels, where it decides
            which lattice points there are.
    """

    iterations: int = 10
    gt_prob: float = 0.7
    gaussian_sxy: float = 3.0
    gaussian_compat: float = 3.0
    bilateral_sxy: float = 50.0
    bilateral_srgb: float = 5.0
    bilateral_compat: float = 10.0
    engine: CrfEngine = "native"


@dataclass(frozen=True, kw_only=True)
class SoftmaxCrf:
    """Options of the dense CRF over class probabilities; the fields mean what they mean in `LabelCrf`."""

    iterations: int = 10
    gaussian_sxy: float = 3.0
    gaussian_compat: float = 3.0
    bilateral_sxy: float = 80.0
    bilateral_srgb: float = 13.0
    bilateral_compat: float = 10.0
    engine: CrfEngine = "native"


class DenseCrf:
    """The pairwise terms of one image, built once and used for any number of unaries.

    Gaussian and bilateral Potts terms with diagonal kernels and symmetric normalisation
    (Kraehenbuehl and Koltun, NIPS 2011).

    Args:
        image: uint8 (H, W, 3) RGB.
        n_labels: number of labels, at least 1.
        options: widths and weights of the two terms and the number of iterations.

    Raises:
        ValueError: when the image is not uint8 (H, W, 3), or the widths are too small for it.
        ImportError: when the engine is pydensecrf and it is not installed.
    """

    def __init__(self, image: NDArray[np.uint8], n_labels: int, options: LabelCrf | SoftmaxCrf) -> None:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"the CRF needs a uint8 (H, W, 3) image, not {image.dtype} {image.shape}")
        self._shape = (n_labels, *image.shape[:2])
        self._iterations = options.iterations
        self._field: PydensecrfField | None = None
        if options.engine == "pydensecrf":
            gaussian = (options.gaussian_sxy, options.gaussian_compat)
            bilateral = (options.bilateral_sxy, options.bilateral_srgb, options.bilateral_compat)
            self._field = PydensecrfField(image, n_labels, gaussian, bilateral)
        elif n_labels > 1 and options.iterations:
            self._terms = pairwise_terms(image, options)

    def infer(self, unary: NDArray[np.float32]) -> NDArray[np.float32]:
        """Label distribution after the mean-field steps; without steps it is softmax(-unary).

        Args:
            unary: float32 (n_labels, H, W) energies (negative log probabilities).

        Returns:
            Q, float32 (n_labels, H, W), which sums to 1 over the labels.

        Raises:
            ValueError: when the unary has another size than the image and the labels.
        """
        return self.infer_all([unary])[0]

    def infer_all(self, unaries: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """What `infer` gives for each of several unaries, bit for bit; two of up to 3 labels take the time of one."""
        for unary in unaries:
            if unary.shape != self._shape:
                raise ValueError(f"unary has shape {unary.shape}, image and labels have {self._shape}")
        if self._field is not None:
            return [self._field.infer(unary, self._iterations) for unary in unaries]
        if self._shape[0] == 1:
            return [np.ones(self._shape, np.float32) for _ in unaries]
        if self._iterations == 0:
            return [_softmax(-unary) for unary in unaries]
        flat = [np.ascontiguousarray(unary, np.float32).reshape(self._shape[0], -1) for unary in unaries]
        return [q.reshape(self._shape) for q in mean_field(self._terms, flat, self._iterations)]


def pairwise_terms(image: NDArray[np.uint8], options: LabelCrf | SoftmaxCrf) -> tuple[PairwiseTerm, PairwiseTerm]:
    """The smoothness and the appearance term of one image."""
    place, appearance = pixel_features(image, options)
    return PairwiseTerm(place, options.gaussian_compat), PairwiseTerm(appearance, options.bilateral_compat)


def pixel_features(
    image: NDArray[np.uint8], options: LabelCrf | SoftmaxCrf
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The features in which the terms' Gaussians measure distances, in units of their widths.

    Args:
        image: uint8 (H, W, 3) RGB.
        options: the widths.

    Returns:
        float32 (H*W, 2): x and y; and float32 (H*W, 5): x, y, red, green and blue.
    """
    height, width = image.shape[:2]
    place = np.empty((height, width, 2), np.float32)
    place[..., 0] = np.arange(width, dtype=np.float32)
    place[..., 1] = np.arange(height, dtype=np.float32)[:, None]
    appearance = np.empty((height, width, 5), np.float32)
    np.divide(place, np.float32(options.bilateral_sxy), out=appearance[..., :2])
    np.divide(image, np.float32(options.bilateral_srgb), out=appearance[..., 2:], dtype=np.float32)
    place /= np.float32(options.gaussian_sxy)
    return place.reshape(-1, 2), appearance.reshape(-1, 5)


def _softmax(energies: NDArray[np.float32]) -> NDArray[np.float32]:
    shares = np.exp(energies - energies.max(axis=0))
    q: NDArray[np.float32] = shares / shares.sum(axis=0)
    return q


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


class PydensecrfField:
    """Pairwise terms of one image in pydensecrf; see `pfit_ray.ops.crf.crf.DenseCrf`.

    Args:
        image: uint8 (H, W, 3) RGB.
        n_labels: number of labels, at least 1.
        gaussian: width in pixels and weight of the smoothness term.
        bilateral: width in pixels, width in grey levels and weight of the appearance term.

    Raises:
        ImportError: when pydensecrf is not installed.
    """

    def __init__(
        self,
        image: NDArray[np.uint8],
        n_labels: int,
        gaussian: tuple[float, float],
        bilateral: tuple[float, float, float],
    ) -> None:
        try:
            import pydensecrf.densecrf as densecrf
        except ImportError as error:
            raise ImportError(
                "the CRF engine pydensecrf is not installed: pip install 'pfit-ray[pydensecrf]'"
            ) from error
        self._shape = (n_labels, *image.shape[:2])
        self._field: Any = densecrf.DenseCRF2D(image.shape[1], image.shape[0], n_labels)
        self._field.addPairwiseGaussian(sxy=gaussian[0], compat=gaussian[1])
        self._field.addPairwiseBilateral(
            sxy=bilateral[0], srgb=bilateral[1], rgbim=np.require(image, requirements=["C", "W"]), compat=bilateral[2]
        )

    def infer(self, unary: NDArray[np.float32], iterations: int) -> NDArray[np.float32]:
        """Q of one unary, float32 (n_labels, H, W)."""
        self._field.setUnaryEnergy(np.ascontiguousarray(unary).reshape(self._shape[0], -1))
        return np.array(self._field.inference(iterations), dtype=np.float32).reshape(self._shape)
