"""What all forms of the unsupervised segmentation share: options, the vote of the superpixels, the regions it gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class UssOptions:
    """Options of the unsupervised segmentation.

    Args:
        seed: seed of the first weights. The global random state of torch is neither read nor changed.
        max_iterations: upper bound of the iterations, at least 1.
        min_labels: stop when fewer labels than this are left.
        learning_rate: learning rate of SGD.
        momentum: momentum of SGD.
        hidden: channels of the two 3x3 convolutions.
        n_channels: channels of the two 1x1 convolutions, the largest possible number of regions; 2..256.

    Raises:
        ValueError: when `n_channels` or `max_iterations` is out of range.
    """

    seed: int = 43
    max_iterations: int = 64
    min_labels: int = 20
    learning_rate: float = 0.05
    momentum: float = 0.9
    hidden: int = 64
    n_channels: int = 32

    def __post_init__(self) -> None:
        if not 2 <= self.n_channels <= 256:
            raise ValueError(f"n_channels is {self.n_channels}, must be 2 to 256")
        if self.max_iterations < 1:
            raise ValueError(f"max_iterations is {self.max_iterations}, must be at least 1")


PUBLISHED = UssOptions()


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


def check_sizes(image: NDArray[np.uint8], superpixels: NDArray[np.integer]) -> None:
    """Refuse superpixels that have another size than the image.

    Raises:
        ValueError: when the sizes differ.
    """
    if image.shape[:2] != superpixels.shape:
        raise ValueError(f"image {image.shape[:2]} and superpixels {superpixels.shape} differ in size")


def merge_by_votes(
    strongest: Callable[[], NDArray[np.integer]],
    learn: Callable[[NDArray[np.int64]], None],
    superpixels: NDArray[np.integer],
    options: UssOptions,
) -> Regions:
    """Let the superpixels vote and the CNN learn their vote, until few enough labels are left.

    Args:
        strongest: runs the CNN; returns the strongest channel of each pixel (H, W).
        learn: trains the CNN one step towards a vote, after `strongest`.
        superpixels: integers (H, W), 0 or larger.
        options: when to stop.

    Returns:
        The regions, as voted in the last iteration.
    """
    counts: list[int] = []
    while True:
        voted = majority_vote(strongest(), superpixels, options.n_channels)
        present = np.bincount(voted.ravel(), minlength=options.n_channels) > 0
        counts.append(int(present.sum()))
        if counts[-1] < options.min_labels or len(counts) == options.max_iterations:
            return Regions.of(voted, present, counts)
        learn(voted)


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
