"""Training of AffinityNet's edge heads (AffinityNet, Ahn & Kwak, CVPR 2018)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfit_ray.config import RunConfig
from pfit_ray.constants import CAM_STRIDE
from pfit_ray.nets.affinitynet import AffinityNet
from pfit_ray.ops.affinity.affinity import affinity_losses, pair_counts
from pfit_ray.ops.cam.augment import shrink_label
from pfit_ray.train.objective import Features, Objective


class AffinityObjective(Objective):
    """Cross entropy of the affinities of pairs of pixels at stride 4; the backbone is not trained.

    Args:
        network: the network.
        radius: pairs nearer than this are learned, in pixels of the grid.
    """

    with_labels = True
    parts = ("background_pairs", "foreground_pairs", "unequal_pairs")

    def __init__(self, network: AffinityNet, radius: int) -> None:
        super().__init__(network)
        self.radius = radius

    def make_target(self, keys: NDArray[np.int32], label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The affinity label at stride 4."""
        return shrink_label(label, CAM_STRIDE)

    def terms(self, targets: Tensor) -> Tensor:
        """Pairs of both background, of one foreground class, and of unequal labels."""
        return pair_counts(targets, self.radius).double()

    def weights(self, step: int, max_step: int) -> tuple[float, ...]:
        """Half for equal labels, half for unequal ones."""
        return 0.25, 0.25, 0.5

    def forward(self, images: Tensor | Features, targets: Tensor) -> Tensor:
        """Losses of a batch."""
        return torch.stack(affinity_losses(self.output(images)[:, 0], targets, self.radius))


def affinity_network(config: RunConfig) -> AffinityNet:
    """The AffinityNet that a run's config describes, with random weights."""
    return AffinityNet(config.affinitynet.backbone.name)


def affinity_objective(config: RunConfig) -> AffinityObjective:
    """AffinityNet and its losses."""
    return AffinityObjective(affinity_network(config), config.affinitynet.radius)
