"""The classifier whose class feature maps become class activation maps."""

from typing import Self, cast

import torch
from torch import Tensor, nn

from pfit_ray.nets.backbones import (
    ParameterGroup,
    create_backbone,
    feature_channels,
    forward_features,
    hold_statistics,
    parameter_groups,
    resolve_backbone,
)


class CamClassifier(nn.Module):
    """Backbone and a 1 x 1 convolution without bias, as in PuzzleCAM (Jo & Yu, ICIP 2021).

    Args:
        backbone_name: a timm model or alias, see `create_backbone`.
        n_classes: number of foreground classes, K.
        fixed_bn: batch normalisations keep their statistics while training.

    Raises:
        ValueError: when the backbone does not fit or there is no class.
    """

    class_tensor = "classifier.weight"
    score_side: int | None = None
    """Shorter side in pixels to which an image is resized before its scores are read; None: its own size."""

    def __init__(self, backbone_name: str, n_classes: int, *, fixed_bn: bool = False) -> None:
        super().__init__()
        if n_classes < 1:
            raise ValueError(f"a classifier needs at least one class, not {n_classes}")
        self.backbone_name = resolve_backbone(backbone_name)
        self.fixed_bn = fixed_bn
        self.backbone = create_backbone(backbone_name)
        self.classifier = nn.Conv2d(feature_channels(self.backbone), n_classes, kernel_size=1, bias=False)
        self.train()

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to class feature maps (B, K, ceil(H / 16), ceil(W / 16))."""
        return cast(Tensor, self.classifier(forward_features(self.backbone, x)))

    def logits(self, maps: Tensor) -> Tensor:
        """Image-level logits (B, K): the spatial mean of class feature maps (B, K, h, w)."""
        return maps.mean(dim=(2, 3))

    def maps_and_scores(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Class feature maps as `forward`, and the probability (B, K) in [0, 1] of each class."""
        return self.read(forward_features(self.backbone, x))

    def read(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """`maps_and_scores` of the backbone's features (B, C, h, w); the probability is a sigmoid."""
        maps = self.classifier(features)
        return maps, torch.sigmoid(self.logits(maps))

    def parameter_groups(self) -> list[ParameterGroup]:
        """Trainable parameters by role."""
        return parameter_groups(self)

    def train(self, mode: bool = True) -> Self:
        """Switch to training; fixed batch normalisations stay as they are."""
        super().train(mode)
        if self.fixed_bn:
            hold_statistics(self)
        return self
