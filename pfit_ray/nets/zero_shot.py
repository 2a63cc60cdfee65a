"""A CAM classifier without training: our classes are sets of the classes of an ImageNet classifier."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pfit_ray.nets.backbones import training_side
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.weights import load_into

if TYPE_CHECKING:
    from pfit_ray.nets.pretrained import ImageNetWeights


class ZeroShotClassifier(CamClassifier):
    """Class rows made of ImageNet rows, and scores from the softmax over all ImageNet classes.

    Its scores mean most at the image size of the ImageNet training, `score_side`; maps work at any size.

    Args:
        backbone_name: a timm model or alias, see `create_backbone`.
        n_classes: number of our classes, K.
        n_rows: number of classes of the ImageNet classifier, N.
    """

    head_weight: Tensor
    head_bias: Tensor
    membership: Tensor

    def __init__(self, backbone_name: str, n_classes: int, *, n_rows: int = 1000) -> None:
        super().__init__(backbone_name, n_classes)
        self.score_side = training_side(self.backbone)
        self.register_buffer("head_weight", torch.zeros(n_rows, self.classifier.in_channels))
        self.register_buffer("head_bias", torch.zeros(n_rows))
        self.register_buffer("membership", torch.zeros(n_classes, n_rows))

    def read(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """`maps_and_scores` of the backbone's features (B, C, h, w).

        The probability is the sum, over the ImageNet classes of the set, of the softmax over all of them.
        """
        logits = features.mean(dim=(2, 3)) @ self.head_weight.T + self.head_bias
        scores = torch.softmax(logits, dim=1) @ self.membership.T
        return self.classifier(features), scores.clamp(0, 1)


def zero_shot_classifier(
    backbone_name: str, weights: "ImageNetWeights", index_sets: Sequence[Sequence[int]]
) -> ZeroShotClassifier:
    """Make a CAM classifier from ImageNet weights, in evaluation mode.

    The row of a class is the mean of its ImageNet rows minus the mean of all rows, which the softmax does not see.

    Args:
        backbone_name: the backbone of `weights`.
        weights: ImageNet weights, see `package_weights` and `timm_weights`.
        index_sets: for each of our classes, in the order of their ids, its ImageNet class indices (from 0).

    Raises:
        ValueError: when a set is empty, an index is out of range, or the weights do not fit the backbone.
    """
    n_rows = len(weights.head_weight)
    membership = torch.zeros(len(index_sets), n_rows)
    for number, indices in enumerate(index_sets, start=1):
        if not indices:
            raise ValueError(f"class id {number} has no ImageNet class: give at least one index")
        unknown = [index for index in indices if not 0 <= index < n_rows]
        if unknown:
            raise ValueError(f"class id {number}: ImageNet index {unknown[0]} is not in 0 ... {n_rows - 1}")
        membership[number - 1, list(indices)] = 1
    mean_of_sets = membership @ weights.head_weight / membership.sum(dim=1, keepdim=True)
    rows = mean_of_sets - weights.head_weight.mean(dim=0)
    network = ZeroShotClassifier(backbone_name, len(index_sets), n_rows=n_rows)
    state = {f"backbone.{name}": tensor for name, tensor in weights.backbone.items()}
    state |= {
        "classifier.weight": rows[:, :, None, None],
        "head_weight": weights.head_weight,
        "head_bias": weights.head_bias,
        "membership": membership,
    }
    load_into(network, state, f"ImageNet weights of {backbone_name}")
    return network.eval()
