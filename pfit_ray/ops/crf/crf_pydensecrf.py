"""The dense CRF of the package pydensecrf, which the published programs call; an optional extra."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


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
