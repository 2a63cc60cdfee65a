"""The published networks, module by module as described, under the published names; slow and without options."""

import torch
import torch.nn.functional as F
from oracles.published_keys import BLOCKS, STEM_WIDTH
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """Block of a plain ResNet: 1 x 1, 3 x 3 with the stride, 1 x 1."""

    def __init__(self, in_channels: int, planes: int, stride: int, first: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * 4)
        self.downsample = None
        if first:
            projection = nn.Conv2d(in_channels, planes * 4, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(planes * 4))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class SplitAttention(nn.Module):
    """Two splits of a grouped convolution, weighted by a softmax over the two for each channel."""

    def __init__(self, planes: int, dilation: int) -> None:
        super().__init__()
        inner = max(planes * 2 // 4, 32)
        self.conv = nn.Conv2d(planes, planes * 2, 3, padding=dilation, dilation=dilation, groups=2, bias=False)
        self.bn0 = nn.BatchNorm2d(planes * 2)
        self.fc1 = nn.Conv2d(planes, inner, 1)
        self.bn1 = nn.BatchNorm2d(inner)
        self.fc2 = nn.Conv2d(inner, planes * 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        one, two = F.relu(self.bn0(self.conv(x))).chunk(2, dim=1)
        pooled = (one + two).mean(dim=(2, 3), keepdim=True)
        logits = torch.stack(self.fc2(F.relu(self.bn1(self.fc1(pooled)))).chunk(2, dim=1))
        first, second = logits.softmax(dim=0)  # which subtracts the maximum: exp() alone overflows
        return first * one + second * two


class SplitBottleneck(nn.Module):
    """Block of a ResNeSt: the stride is an average pooling after the split attention and before the shortcut."""

    def __init__(self, in_channels: int, planes: int, stride: int, first: bool, pooled: bool, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = SplitAttention(planes, dilation)
        self.avd_layer = nn.AvgPool2d(3, stride, padding=1) if pooled else nn.Identity()
        self.conv3 = nn.Conv2d(planes, planes * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * 4)
        self.downsample = None
        if first:
            pooling = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
            projection = nn.Conv2d(in_channels, planes * 4, 1, bias=False)
            self.downsample = nn.Sequential(pooling, projection, nn.BatchNorm2d(planes * 4))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.avd_layer(self.conv2(x))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class Backbone(nn.Module):
    """Stem and four layers at strides 4, 8, 16, 16."""

    def __init__(self, name: str) -> None:
        super().__init__()
        width = STEM_WIDTH.get(name)
        if width is None:
            self.channels = 64
            self.conv1: nn.Module = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        else:
            self.channels = 2 * width
            self.conv1 = nn.Sequential(
                nn.Conv2d(3, width, 3, 2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
            )
        self.bn1 = nn.BatchNorm2d(self.channels)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        channels = self.channels
        for number, (planes, stride) in enumerate([(64, 1), (128, 2), (256, 2), (512, 1)], start=1):
            layer = nn.Sequential()
            for block in range(BLOCKS[name][number - 1]):
                first = block == 0
                own_stride = stride if first else 1
                if width is None:
                    layer.append(Bottleneck(channels, planes, own_stride, first))
                else:
                    dilation = 2 if number == 4 and not first else 1
                    pooled = first and number > 1
                    layer.append(SplitBottleneck(channels, planes, own_stride, first, pooled, dilation))
                channels = planes * 4
            self.add_module(f"layer{number}", layer)


class Published(nn.Module):
    """A backbone under its two names."""

    def __init__(self, backbone: str) -> None:
        super().__init__()
        self.model = Backbone(backbone)
        self.stage1 = nn.Sequential(self.model.conv1, self.model.bn1, nn.ReLU(), self.model.maxpool)
        for number in range(2, 6):
            self.add_module(f"stage{number}", nn.Sequential(self.model.get_submodule(f"layer{number - 1}")))

    def levels(self, x: Tensor) -> list[Tensor]:
        """Outputs of the five stages."""
        found = []
        for number in range(1, 6):
            x = self.get_submodule(f"stage{number}")(x)
            found.append(x)
        return found


class Classifier(Published):
    """Class feature maps."""

    def __init__(self, backbone: str, n_classes: int = 20) -> None:
        super().__init__(backbone)
        self.classifier = nn.Conv2d(2048, n_classes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.classifier(self.levels(x)[-1])
        return maps


class AffinityNet(Published):
    """Edge logits; the path indices in the checkpoint play no part in them."""

    def __init__(self, backbone: str) -> None:
        super().__init__(backbone)
        for number, (channels, scale) in enumerate(
            [(self.model.channels, 1), (256, 1), (512, 2), (1024, 4), (2048, 4)], start=1
        ):
            head = nn.Sequential(nn.Conv2d(channels, 32, 1, bias=False), nn.GroupNorm(4, 32))
            if scale > 1:
                head.append(nn.Upsample(scale_factor=scale, mode="bilinear", align_corners=False))
            self.add_module(f"fc_edge{number}", head.append(nn.ReLU()))
        self.fc_edge6 = nn.Conv2d(160, 1, 1)
        self.backbone = nn.ModuleList([self.get_submodule(f"stage{number}") for number in range(1, 6)])
        self.edge_layers = nn.ModuleList([self.get_submodule(f"fc_edge{number}") for number in range(1, 7)])

    def forward(self, x: Tensor) -> Tensor:
        edges = [head(level) for head, level in zip(self.edge_layers, self.levels(x), strict=False)]
        height, width = edges[1].shape[2:]
        logits: Tensor = self.fc_edge6(torch.cat([edge[:, :, :height, :width] for edge in edges], dim=1))
        return logits


class AtrousBranch(nn.Module):
    def __init__(self, dilation: int | None) -> None:
        super().__init__()
        kernel, padding = (1, 0) if dilation is None else (3, dilation)
        self.atrous_conv = nn.Conv2d(2048, 256, kernel, padding=padding, dilation=dilation or 1, bias=False)
        self.bn = nn.GroupNorm(4, 256)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.atrous_conv(x)))


class AtrousPooling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for number, dilation in enumerate([None, 6, 12, 18], start=1):
            self.add_module(f"aspp{number}", AtrousBranch(dilation))
        self.global_avg_pool = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(2048, 256, 1, bias=False), nn.GroupNorm(4, 256), nn.ReLU()
        )
        self.conv1 = nn.Conv2d(1280, 256, 1, bias=False)
        self.bn1 = nn.GroupNorm(4, 256)

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.get_submodule(f"aspp{number}")(x) for number in range(1, 5)]
        pooled = F.interpolate(self.global_avg_pool(x), x.shape[2:], mode="bilinear", align_corners=True)
        return F.relu(self.bn1(self.conv1(torch.cat([*branches, pooled], dim=1))))


class Decoder(nn.Module):
    def __init__(self, n_labels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(256, 48, 1, bias=False)
        self.bn1 = nn.GroupNorm(4, 48)
        self.classifier = nn.Sequential(
            nn.Conv2d(304, 256, 3, padding=1, bias=False),
            nn.GroupNorm(4, 256),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            nn.GroupNorm(4, 256),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(256, n_labels, 1),
        )

    def forward(self, x: Tensor, low_level: Tensor) -> Tensor:
        low_level = F.relu(self.bn1(self.conv1(low_level)))
        x = F.interpolate(x, low_level.shape[2:], mode="bilinear", align_corners=True)
        logits: Tensor = self.classifier(torch.cat([x, low_level], dim=1))
        return logits


class DeepLab(Published):
    """Segmentation logits at the size of the image."""

    def __init__(self, backbone: str, n_labels: int = 21) -> None:
        super().__init__(backbone)
        self.aspp = AtrousPooling()
        self.decoder = Decoder(n_labels)

    def forward(self, x: Tensor) -> Tensor:
        _, low_level, _, _, deep = self.levels(x)
        logits = self.decoder(self.aspp(deep), low_level)
        return F.interpolate(logits, x.shape[2:], mode="bilinear", align_corners=True)


NETWORKS = {"classifier": Classifier, "affinitynet": AffinityNet, "deeplab": DeepLab}


def published_network(network: str, backbone: str, state: dict[str, Tensor]) -> Published:
    """The network with a checkpoint whose every name it has, except AffinityNet's path indices; for inference."""
    with torch.device("meta"):
        built = NETWORKS[network](backbone)
    tensors = {name: tensor for name, tensor in state.items() if not name.startswith("path_indices_")}
    built.load_state_dict(tensors, strict=True, assign=True)
    return built.eval()
