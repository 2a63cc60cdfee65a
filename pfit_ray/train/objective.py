"""What a network learns: its targets and its losses."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn


class Features(NamedTuple):
    """What a frozen backbone has seen in a batch."""

    levels: list[Tensor]
    """(B, C, h, w) each."""
    size: tuple[int, int]
    """(H, W) of the images."""


class Objective(nn.Module, ABC):
    """A network together with its targets and losses.

    A loss is a weighted sum of parts, and a part is a mean over terms: images, pixels or pairs of pixels. The shared
    loop weighs each part by its number of terms. Gradient accumulation and several workers therefore compute the loss
    of the whole batch, not a mean of means.

    Args:
        network: the network to train; it has `parameter_groups()` and a `backbone`, and where that is `frozen` the
            methods `features` and `head` too.
    """

    with_labels: ClassVar[bool]
    """Whether the targets need a label map."""
    parts: tuple[str, ...]
    """Names of the parts, P of them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @abstractmethod
    def make_target(self, keys: NDArray[np.int32], label: NDArray[np.uint8]) -> NDArray[Any]:
        """The target of one image.

        Args:
            keys: ascending class ids, 1-based (K,).
            label: augmented label map (crop, crop), 255 = ignore.

        Raises:
            RowError: when the image cannot be learned from.
        """

    @abstractmethod
    def terms(self, targets: Tensor) -> Tensor:
        """Number of terms of each part in a batch of targets (B, ...): float64 (P,)."""

    @abstractmethod
    def weights(self, step: int, max_step: int) -> tuple[float, ...]:
        """Weight of each part in the loss at a step of the training."""

    @abstractmethod
    def forward(self, images: Any, targets: Tensor) -> Tensor:
        """Parts of the loss (P,), float32, from images (B, 3, crop, crop), or their features, and targets (B, ...)."""

    def output(self, images: Tensor | Features) -> Tensor:
        """What the network gives for images, or for their features."""
        if isinstance(images, Features):
            output: Tensor = cast(Any, self.network).head(images.levels, images.size)
            return output
        return cast(Tensor, self.network(images))
