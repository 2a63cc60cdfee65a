"""AffinityNet (Ahn & Kwak, CVPR 2018) with the boundary head of IRN (Ahn, Cho & Kwak, CVPR 2019)."""

from typing import Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pfit_ray.nets.backbones import (
    ParameterGroup,
    create_backbone,
    parameter_groups,
    pyramid,
    pyramid_channels,
    pyramid_strides,
    resolve_backbone,
)

STRIDE = 4
HEAD_CHANNELS = 32


class AffinityNet(nn.Module):
    """Frozen backbone, one small head per feature level, and their fusion to one boundary logit at stride 4.

    Args:
        backbone_name: a timm model or alias, see `create_backbone`.

    Raises:
        ValueError: when the backbone does not fit.
    """

    frozen = True

    def __init__(self, backbone_name: str) -> None:
        super().__init__()
        self.backbone_name = resolve_backbone(backbone_name)
        self.backbone = create_backbone(backbone_name).requires_grad_(False).eval()
        self.edge_heads = nn.ModuleList(
            EdgeHead(channels, stride // STRIDE)
            for channels, stride in zip(pyramid_channels(self.backbone), pyramid_strides(self.backbone), strict=True)
        )
        self.edge_fusion = nn.Conv2d(HEAD_CHANNELS * len(self.edge_heads), 1, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to edge logits (B, 1, ceil(H / 4), ceil(W / 4)).

        The boundary probability is the sigmoid of the logit.
        """
        return self.head(self.features(x), (x.shape[2], x.shape[3]))

    def features(self, x: Tensor) -> list[Tensor]:
        """The five levels (B, C, h, w) of normalised images (B, 3, H, W)."""
        with torch.no_grad():
            return pyramid(self.backbone, x)

    def head(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Edge logits of the `features` of images of a size (H, W)."""
        height, width = (-(-side // STRIDE) for side in size)
        edges = [fit_size(head(level), height, width) for head, level in zip(self.edge_heads, features, strict=True)]
        return cast(Tensor, self.edge_fusion(torch.cat(edges, dim=1)))

    def parameter_groups(self) -> list[ParameterGroup]:
        """Trainable parameters by role: new weights and new biases."""
        return parameter_groups(self)

    def train(self, mode: bool = True) -> Self:
        """Switch the heads to training; the backbone never changes."""
        super().train(mode)
        self.backbone.eval()
        return self


class EdgeHead(nn.Module):
    """Features (B, C, h, w) to 32 boundary features at stride 4 (B, 32, h * scale, w * scale)."""

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, HEAD_CHANNELS, kernel_size=1, bias=False)
        self.norm = nn.GroupNorm(4, HEAD_CHANNELS)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Project, normalise, enlarge, rectify."""
        x = self.norm(self.conv(x))
        if self.scale > 1:
            x = F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return F.relu(x)


def fit_size(x: Tensor, height: int, width: int) -> Tensor:
    """Cut maps (B, C, h, w) at the bottom and right to (B, C, height, width), or repeat their last pixels."""
    x = x[:, :, :height, :width]
    missing = (0, width - x.shape[3], 0, height - x.shape[2])
    return F.pad(x, missing, mode="replicate") if any(missing) else x
