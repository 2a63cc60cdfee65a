"""Compiles the Numba kernels of the passes. Numba keeps them on disk; a fresh installation has none yet."""

import numpy as np

from pfit_ray.ops.crf.crf import LabelCrf, label_crf
from pfit_ray.ops.regions.uss_fused import segment_unsupervised_fused
from pfit_ray.ops.regions.uss_vote import UssOptions
from pfit_ray.ops.superpixels.superpixels import quickshift_superpixels, slic_superpixels

SIDE = 32


def compile_kernels(share: int = 0, shares: int = 1) -> None:
    """Compile a share of the kernels, or load them where they have been compiled before.

    Processes that start together would each compile all of them, for half a minute. Instead each compiles a share and
    finds the rest on disk.

    Args:
        share: which, 0 ... shares - 1.
        shares: number of shares; those beyond the fourth are empty.
    """
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    blocks = np.arange(SIDE, dtype=np.int32) // 8
    labels = blocks[:, None] * 4 + blocks
    kernels = (  # the longest first
        lambda: segment_unsupervised_fused(image, labels, UssOptions(max_iterations=2, min_labels=1)),
        lambda: label_crf(image, labels % 2, 2, LabelCrf(iterations=1)),
        lambda: slic_superpixels(image),
        lambda: quickshift_superpixels(image),
    )
    for compile_one in kernels[share::shares]:
        compile_one()
