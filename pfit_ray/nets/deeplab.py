"""DeepLabv3+ (Chen et al., ECCV 2018)."""

from typing import Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pfit_ray.nets.backbones import (
    ParameterGroup,
    create_backbone,
    freeze_outside_pyramid,
    hold_statistics,
    parameter_groups,
    pyramid,
    pyramid_channels,
    resolve_backbone,
)

DILATIONS = (6, 12, 18)
CHANNELS = 256
LOW_LEVEL_CHANNELS = 48


class DeepLabV3Plus(nn.Module):
    """Segmentation network at output stride 16: atrous spatial pyramid pooling and a decoder at stride 4.

    If both `group_norm` and `fixed_bn` are off, each worker's batches must hold at least two images: the branch that
    pools the image has one value per channel and image.

    Args:
        backbone_name: a timm model or alias, see `create_backbone`.
        n_labels: number of labels with background.
        group_norm: the head normalises with GroupNorm of 4 groups instead of BatchNorm.
        fixed_bn: batch normalisations keep their statistics while training.
        frozen: the backbone is not trained.

    Raises:
        ValueError: when the backbone does not fit or there are fewer than two labels.
    """

    class_tensor = "decoder.classifier.weight"

    def __init__(
        self, backbone_name: str, n_labels: int, *, group_norm: bool = True, fixed_bn: bool = True, frozen: bool = False
    ) -> None:
        super().__init__()
        if n_labels < 2:
            raise ValueError(f"a segmentation network needs background and one class at least, not {n_labels}")
        self.backbone_name = resolve_backbone(backbone_name)
        self.fixed_bn = fixed_bn
        self.frozen = frozen
        self.backbone = create_backbone(backbone_name)
        freeze_outside_pyramid(self.backbone)
        if frozen:
            self.backbone.requires_grad_(False)
        channels = pyramid_channels(self.backbone)
        self.aspp = AtrousPyramidPooling(channels[-1], group_norm=group_norm)
        self.decoder = Decoder(channels[1], n_labels, group_norm=group_norm)
        for head in (self.aspp, self.decoder):
            for module in head.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight)
        self.train()

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to logits (B, n_labels, H, W)."""
        return self.head(self.features(x), (x.shape[2], x.shape[3]))

    def features(self, x: Tensor) -> list[Tensor]:
        """What the head reads of normalised images (B, 3, H, W): features (B, C, h, w) at strides 4 and 16."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            _, low_level, *_, high_level = pyramid(self.backbone, x)
        return [low_level, high_level]

    def head(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Logits (B, n_labels, *size) of `features`."""
        low_level, high_level = features
        logits = self.decoder(self.aspp(high_level), low_level)
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=True)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Trainable parameters by role."""
        return parameter_groups(self)

    def train(self, mode: bool = True) -> Self:
        """Switch to training; fixed batch normalisations and a frozen backbone stay as they are."""
        super().train(mode)
        if self.fixed_bn:
            hold_statistics(self)
        if self.frozen:
            self.backbone.eval()
        return self


class ConvNorm(nn.Module):
    """Convolution without bias that keeps the size, normalisation, ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, dilation: int = 1, group_norm: bool
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=False)
        self.norm = nn.GroupNorm(4, out_channels) if group_norm else nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) to (B, out_channels, h, w)."""
        return F.relu(self.norm(self.conv(x)))


class AtrousPyramidPooling(nn.Module):
    """Features (B, C, h, w) seen at four dilations and as a whole, joined to (B, 256, h, w)."""

    def __init__(self, in_channels: int, *, group_norm: bool) -> None:
        super().__init__()
        self.branches = nn.ModuleList([ConvNorm(in_channels, CHANNELS, 1, group_norm=group_norm)])
        self.branches.extend(
            ConvNorm(in_channels, CHANNELS, 3, dilation=dilation, group_norm=group_norm) for dilation in DILATIONS
        )
        self.pooling = ConvNorm(in_channels, CHANNELS, 1, group_norm=group_norm)
        joined = CHANNELS * (len(self.branches) + 1)
        self.projection = ConvNorm(joined, CHANNELS, 1, group_norm=group_norm)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Join all branches."""
        pooled = self.pooling(F.adaptive_avg_pool2d(x, 1))
        branches = [branch(x) for branch in self.branches]
        joined = torch.cat([*branches, _resize(pooled, x)], dim=1)
        return cast(Tensor, self.dropout(self.projection(joined)))


class Decoder(nn.Module):
    """Joins deep features with features at stride 4 and classifies each of their pixels."""

    def __init__(self, low_level_channels: int, n_labels: int, *, group_norm: bool) -> None:
        super().__init__()
        self.low_level = ConvNorm(low_level_channels, LOW_LEVEL_CHANNELS, 1, group_norm=group_norm)
        self.refinement = nn.Sequential(
            ConvNorm(CHANNELS + LOW_LEVEL_CHANNELS, CHANNELS, 3, group_norm=group_norm),
            nn.Dropout(0.5),
            ConvNorm(CHANNELS, CHANNELS, 3, group_norm=group_norm),
            nn.Dropout(0.1),
        )
        self.classifier = nn.Conv2d(CHANNELS, n_labels, kernel_size=1)

    def forward(self, deep: Tensor, low_level: Tensor) -> Tensor:
        """Deep (B, 256, h', w') and low-level features (B, C, h, w) to logits (B, n_labels, h, w)."""
        low_level = self.low_level(low_level)
        refined = self.refinement(torch.cat([_resize(deep, low_level), low_level], dim=1))
        return cast(Tensor, self.classifier(refined))


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)
