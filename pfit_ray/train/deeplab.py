"""Training of DeepLabv3+ on pseudo labels (Chen et al., ECCV 2018)."""

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pfit_ray.config import RunConfig
from pfit_ray.constants import IGNORE
from pfit_ray.errors import RowError
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.train.objective import Features, Objective


class DeepLabObjective(Objective):
    """Cross entropy over all pixels that are not ignored.

    Args:
        network: the network.
        n_labels: number of labels with background.
    """

    with_labels = True
    parts = ("cross_entropy",)

    def __init__(self, network: DeepLabV3Plus, n_labels: int) -> None:
        super().__init__(network)
        self.n_labels = n_labels

    def make_target(self, keys: NDArray[np.int32], label: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The label map."""
        known = label[label != IGNORE]
        if known.size and known.max() >= self.n_labels:
            raise RowError("bad_mask", f"its label map has label {known.max()}, the last is {self.n_labels - 1}")
        return label.astype(np.int64)

    def terms(self, targets: Tensor) -> Tensor:
        """Pixels that are not ignored."""
        return (targets != IGNORE).sum()[None].double()

    def weights(self, step: int, max_step: int) -> tuple[float, ...]:
        """One part alone."""
        return (1.0,)

    def forward(self, images: Tensor | Features, targets: Tensor) -> Tensor:
        """Loss of a batch; 0 where all pixels are ignored."""
        logits = self.output(images).float()
        total = F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")
        return (total / (targets != IGNORE).sum().clamp(min=1))[None]


def deeplab_network(config: RunConfig) -> DeepLabV3Plus:
    """The DeepLabv3+ that a run's config describes, with random weights."""
    own = config.deeplab
    n_labels = len(config.data.class_list) + 1
    return DeepLabV3Plus(
        own.backbone.name,
        n_labels,
        group_norm=own.group_norm,
        fixed_bn=own.fixed_bn,
        frozen=own.freeze_backbone,
    )


def deeplab_objective(config: RunConfig) -> DeepLabObjective:
    """DeepLabv3+ and its loss."""
    return DeepLabObjective(deeplab_network(config), len(config.data.class_list) + 1)
