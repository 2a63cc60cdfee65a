"""Superpixels: small connected patches of similar colour, with the labels of scikit-image."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2lab
from skimage.util import img_as_float

from pfit_ray.ops.superpixels.quickshift import quickshift
from pfit_ray.ops.superpixels.slic import slic


def slic_superpixels(
    image: NDArray[np.uint8], *, n_segments: int = 1000, compactness: float = 15.0, sigma: float = 1.0
) -> NDArray[np.int32]:
    """SLIC superpixels (Achanta et al. 2012).

    The channels are taken for RGB and converted to Lab. The published PerimeterFit programs pass BGR.

    Args:
        image: uint8 (H, W, 3).
        n_segments: approximate number of superpixels, at least 1.
        compactness: balance of nearness in space against nearness in colour, above 0.
        sigma: width of the Gaussian smoothing before the clustering, in pixels; 0 does not smooth.

    Returns:
        int32 (H, W), labels from 1. Ids without pixels are possible.
    """
    values = img_as_float(image)
    values = values - values.min()
    largest = values.max()
    if largest > 0:
        values /= largest
    # A first axis of length 1 is smoothed, too, as scikit-image does: it changes last bits.
    smooth = gaussian_filter(rgb2lab(values)[np.newaxis], (sigma, sigma, sigma, 0), mode="reflect")[0]
    return slic(smooth * (1.0 / compactness), n_segments=n_segments)


def quickshift_superpixels(
    image: NDArray[np.uint8],
    *,
    kernel_size: float = 3.0,
    max_dist: float = 6.0,
    ratio: float = 0.29,
    seed: int = 42,
) -> NDArray[np.int32]:
    """Quickshift superpixels (Vedaldi and Soatto 2008).

    The channels are taken for RGB and converted to Lab. The published PerimeterFit programs pass BGR.

    Args:
        image: uint8 (H, W, 3).
        kernel_size: width of the density's Gaussian kernel, in pixels, at least 1.
        max_dist: cut-off distance of the links between pixels and denser pixels.
        ratio: weight of colour against space, 0 to 1.
        seed: seed of the noise that breaks ties of the density.

    Returns:
        int32 (H, W), labels from 0.

    Raises:
        ValueError: when `kernel_size` is below 1.
    """
    return quickshift(rgb2lab(image) * ratio, kernel_size=kernel_size, max_dist=max_dist, seed=seed)
