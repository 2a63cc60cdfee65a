"""Names and shapes of the published checkpoints, written down from the description of their architecture."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

Keys = list[tuple[str, list[int]]]

BLOCKS = {
    "resnet50": [3, 4, 6, 3],
    "resnet101": [3, 4, 23, 3],
    "resnet152": [3, 8, 36, 3],
    "resnest50": [3, 4, 6, 3],
    "resnest101": [3, 4, 23, 3],
    "resnest200": [3, 24, 36, 3],
    "resnest269": [3, 30, 48, 8],
}
STEM_WIDTH = {"resnest50": 32, "resnest101": 64, "resnest200": 64, "resnest269": 64}
PLANES = [64, 128, 256, 512]
EXPANSION = 4
GRID, RADIUS = 512 // 4, 10


def published_keys(network: str, backbone: str, n_classes: int = 20) -> Keys:
    """All names and shapes in the order of the published file.

    Args:
        network: classifier, affinitynet or deeplab.
        backbone: a key of `BLOCKS`.
        n_classes: foreground classes.
    """
    trunk = [(f"model.{name}", shape) for name, shape in backbone_keys(backbone)]
    stages = [key for number in range(1, 6) for key in stage_keys(backbone, number, f"stage{number}")]
    if network == "classifier":
        return [*trunk, *stages, ("classifier.weight", [n_classes, 2048, 1, 1])]
    if network == "deeplab":
        return [*trunk, *stages, *head_keys(n_classes + 1)]
    again = [key for number in range(1, 6) for key in stage_keys(backbone, number, f"backbone.{number - 1}")]
    return [
        *path_index_keys(),
        *trunk,
        *stages,
        *edge_keys(backbone, [f"fc_edge{number}" for number in range(1, 7)]),
        *again,
        *edge_keys(backbone, [f"edge_layers.{number}" for number in range(6)]),
    ]


def random_state(keys: Keys, seed: int = 0) -> dict[str, Tensor]:
    """Seeded tensors for the names: equal wherever names mean one tensor, and small enough for deep networks."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    state: dict[str, Tensor] = {}
    for name, shape in keys:
        if name.startswith("path_indices_"):
            state[name] = torch.tensor(0).expand(shape)  # takes no memory
            continue
        meaning = one_name(name)
        if meaning not in tensors:
            tensors[meaning] = random_tensor(meaning, shape, generator)
        state[name] = tensors[meaning]
    return state


def random_tensor(name: str, shape: list[int], generator: torch.Generator) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    x = torch.randn(shape, generator=generator)
    if name.endswith("running_var"):
        return 1 + 0.2 * x.abs()
    if name.endswith(("running_mean", "bias")):
        return 0.05 * x
    if len(shape) == 1:
        return (0.25 if name.endswith("bn3.weight") else 1.0) * (1 + 0.1 * x)
    return x * math.sqrt(2 / math.prod(shape[1:]))


def one_name(name: str) -> str:
    """The name under `model` or `fc_edge` of a tensor that has several."""
    parts = name.split(".")
    if parts[0] == "edge_layers":
        return ".".join([f"fc_edge{int(parts[1]) + 1}", *parts[2:]])
    if parts[0] == "backbone":
        parts = [f"stage{int(parts[1]) + 1}", *parts[2:]]
    if parts[0] == "stage1":
        return ".".join(["model", ["conv1", "bn1"][int(parts[1])], *parts[2:]])
    if parts[0].startswith("stage"):
        return ".".join(["model", f"layer{int(parts[0][-1]) - 1}", *parts[2:]])
    return name


def backbone_keys(backbone: str) -> Keys:
    """Names inside the backbone: stem, then four layers of bottleneck blocks."""
    keys = [*stem_keys(backbone, "conv1."), *batch_norm("bn1.", stem_channels(backbone))]
    for number in range(1, 5):
        keys += layer_keys(backbone, number, f"layer{number}.")
    return keys


def stage_keys(backbone: str, number: int, prefix: str) -> Keys:
    """The same tensors as a list of modules: convolution and normalisation of the stem, then the layers."""
    if number == 1:
        return [*stem_keys(backbone, f"{prefix}.0."), *batch_norm(f"{prefix}.1.", stem_channels(backbone))]
    return layer_keys(backbone, number - 1, f"{prefix}.0.")


def stem_channels(backbone: str) -> int:
    return 2 * STEM_WIDTH[backbone] if backbone in STEM_WIDTH else 64


def stem_keys(backbone: str, prefix: str) -> Keys:
    if backbone not in STEM_WIDTH:
        return [(f"{prefix}weight", [64, 3, 7, 7])]
    width = STEM_WIDTH[backbone]
    return [
        (f"{prefix}0.weight", [width, 3, 3, 3]),
        *batch_norm(f"{prefix}1.", width),
        (f"{prefix}3.weight", [width, width, 3, 3]),
        *batch_norm(f"{prefix}4.", width),
        (f"{prefix}6.weight", [2 * width, width, 3, 3]),
    ]


def layer_keys(backbone: str, number: int, prefix: str) -> Keys:
    planes = PLANES[number - 1]
    in_channels = stem_channels(backbone) if number == 1 else PLANES[number - 2] * EXPANSION
    split = backbone.startswith("resnest")
    keys: Keys = []
    for block in range(BLOCKS[backbone][number - 1]):
        own = f"{prefix}{block}."
        keys += [(f"{own}conv1.weight", [planes, in_channels, 1, 1]), *batch_norm(f"{own}bn1.", planes)]
        if split:
            keys += split_attention_keys(f"{own}conv2.", planes)
        else:
            keys += [(f"{own}conv2.weight", [planes, planes, 3, 3]), *batch_norm(f"{own}bn2.", planes)]
        out_channels = planes * EXPANSION
        keys += [(f"{own}conv3.weight", [out_channels, planes, 1, 1]), *batch_norm(f"{own}bn3.", out_channels)]
        if block == 0:
            convolution = 1 if split else 0  # a ResNeSt pools first
            keys.append((f"{own}downsample.{convolution}.weight", [out_channels, in_channels, 1, 1]))
            keys += batch_norm(f"{own}downsample.{convolution + 1}.", out_channels)
        in_channels = out_channels
    return keys


def split_attention_keys(prefix: str, planes: int) -> Keys:
    radix = 2
    inner = max(planes * radix // 4, 32)
    return [
        (f"{prefix}conv.weight", [planes * radix, planes // radix, 3, 3]),
        *batch_norm(f"{prefix}bn0.", planes * radix),
        (f"{prefix}fc1.weight", [inner, planes, 1, 1]),
        (f"{prefix}fc1.bias", [inner]),
        *batch_norm(f"{prefix}bn1.", inner),
        (f"{prefix}fc2.weight", [planes * radix, inner, 1, 1]),
        (f"{prefix}fc2.bias", [planes * radix]),
    ]


def batch_norm(prefix: str, channels: int) -> Keys:
    four = ("weight", "bias", "running_mean", "running_var")
    return [*((f"{prefix}{name}", [channels]) for name in four), (f"{prefix}num_batches_tracked", [])]


def group_norm(prefix: str, channels: int) -> Keys:
    return [(f"{prefix}weight", [channels]), (f"{prefix}bias", [channels])]


def edge_keys(backbone: str, names: list[str]) -> Keys:
    """Five heads and their fusion; a plain ResNet-101 gets the 64 channels that its stem has."""
    keys: Keys = []
    for name, channels in zip(names[:5], [stem_channels(backbone), 256, 512, 1024, 2048], strict=True):
        keys += [(f"{name}.0.weight", [32, channels, 1, 1]), *group_norm(f"{name}.1.", 32)]
    return [*keys, (f"{names[5]}.weight", [1, 160, 1, 1]), (f"{names[5]}.bias", [1])]


def head_keys(n_labels: int) -> Keys:
    keys: Keys = []
    for number, kernel in enumerate([1, 3, 3, 3], start=1):
        own = f"aspp.aspp{number}."
        keys += [(f"{own}atrous_conv.weight", [256, 2048, kernel, kernel]), *group_norm(f"{own}bn.", 256)]
    return [
        *keys,
        ("aspp.global_avg_pool.1.weight", [256, 2048, 1, 1]),
        *group_norm("aspp.global_avg_pool.2.", 256),
        ("aspp.conv1.weight", [256, 5 * 256, 1, 1]),
        *group_norm("aspp.bn1.", 256),
        ("decoder.conv1.weight", [48, 256, 1, 1]),
        *group_norm("decoder.bn1.", 48),
        ("decoder.classifier.0.weight", [256, 256 + 48, 3, 3]),
        *group_norm("decoder.classifier.1.", 256),
        ("decoder.classifier.4.weight", [256, 256, 3, 3]),
        *group_norm("decoder.classifier.5.", 256),
        ("decoder.classifier.8.weight", [n_labels, 256, 1, 1]),
        ("decoder.classifier.8.bias", [n_labels]),
    ]


def path_index_keys() -> Keys:
    """For each length of a path: its destinations, its cells, the pixels from which it starts in the grid."""
    starts = (GRID - RADIUS + 1) * (GRID - 2 * (RADIUS - 1))
    by_length: dict[int, int] = {}
    for length in path_lengths():
        by_length[length] = by_length.get(length, 0) + 1
    return [
        (f"path_indices_{number}", [count, length, starts])
        for number, (length, count) in enumerate(sorted(by_length.items()))
    ]


def path_lengths() -> Iterator[int]:
    for dy in range(RADIUS):
        for dx in range(-RADIUS + 1, RADIUS):
            if math.hypot(dy, dx) < RADIUS and (dy > 0 or dx > 0):
                box = [(y, x) for y in range(dy + 1) for x in range(min(dx, 0), max(dx, 0) + 1)]
                yield sum((dy * x - dx * y) ** 2 < dy**2 + dx**2 for y, x in box)
