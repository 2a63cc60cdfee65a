"""What all forms of the unsupervised segmentation share: the vote of the superpixels, and the regions it leads to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Regions:
    """Regions of one image.

    Attributes:
        labels: uint8 (H, W), 0..n-1: the rank of the pixel's channel among the surviving channels.
        channel_ids: int64 (n,), the surviving channels of the CNN, ascending.
        labels_per_iteration: number of regions after each iteration; the last one is n.
    """

    labels: NDArray[np.uint8]
    channel_ids: NDArray[np.int64]
    labels_per_iteration: tuple[int, ...]

    @classmethod
    def of(
        cls, voted: NDArray[np.integer], present: NDArray[np.bool_], labels_per_iteration: Sequence[int]
    ) -> "Regions":
        """Regions from the last vote (H, W), and which channels (n_channels,) it gave to some pixel."""
        rank = (np.cumsum(present) - 1).astype(np.uint8)
        return cls(rank[voted], np.flatnonzero(present), tuple(labels_per_iteration))


def check_input(
    image: NDArray[np.uint8], superpixels: NDArray[np.integer], n_channels: int, max_iterations: int
) -> None:
    """Refuse what no segmentation can work on; the arguments are those of `segment_unsupervised`.

    Raises:
        ValueError: when the sizes differ or `n_channels` or `max_iterations` is out of range.
    """
    if image.shape[:2] != superpixels.shape:
        raise ValueError(f"image {image.shape[:2]} and superpixels {superpixels.shape} differ in size")
    if not 2 <= n_channels <= 256:
        raise ValueError(f"n_channels is {n_channels}, must be 2 to 256")
    if max_iterations < 1:
        raise ValueError(f"max_iterations is {max_iterations}, must be at least 1")


def majority_vote(
    labels: NDArray[np.integer], superpixels: NDArray[np.integer], n_labels: int = 32
) -> NDArray[np.int64]:
    """Give every pixel the most frequent label of its superpixel; the smallest one where several tie.

    Args:
        labels: integers (H, W), 0..n_labels-1.
        superpixels: integers (H, W), 0 or larger; gaps between the ids are allowed.
        n_labels: number of possible labels.

    Returns:
        int64 (H, W).

    Raises:
        ValueError: when a superpixel id or a label is negative.
    """
    ids = superpixels.astype(np.int64).ravel()
    if ids.max() > 2 * ids.size:  # keeps the table of counts in proportion to the image
        ids = np.unique(ids, return_inverse=True)[1]
    n_superpixels = int(ids.max()) + 1
    pairs = ids * n_labels + labels.ravel()
    counts = np.bincount(pairs, minlength=n_superpixels * n_labels).reshape(n_superpixels, n_labels)
    return counts.argmax(axis=1)[ids].reshape(labels.shape)
