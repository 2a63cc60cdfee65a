"""Backbones from timm: models with feature levels at strides 2, 4, 8, 16, 32, run at output stride 16.

timm takes seconds to import, and drivers import this module but build no network. So timm is imported where it is
used.
"""

import copy
import difflib
from typing import Any, Literal, TypedDict, cast

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

ALIASES = {
    "resnest50": "resnest50d",
    "resnest101": "resnest101e",
    "resnest200": "resnest200e",
    "resnest269": "resnest269e",
    "efficientnet_lite0": "tf_efficientnet_lite0",
}
"""Names that papers use, and the timm models they mean."""

LEVELS = 5


def resolve_backbone(name: str) -> str:
    """The timm name of a backbone; aliases such as `resnest101` are accepted.

    Raises:
        ValueError: when timm has no such model; the message lists the nearest names.
    """
    import timm

    resolved = ALIASES.get(name, name)
    if timm.is_model(resolved):
        return resolved
    near = difflib.get_close_matches(name, [*ALIASES, *timm.list_models()], n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "see timm.list_models() for all names"
    raise ValueError(f"unknown backbone {name!r}: {hint}")


def create_backbone(name: str, *, output_stride: int = 16) -> nn.Module:
    """A timm model without its classifier, randomly initialised; nothing is downloaded.

    State-dict keys are timm's own. ResNets and ResNeSts at output stride 16 compute what PuzzleCAM (Jo & Yu,
    ICIP 2021) and AffinityNet (Ahn & Kwak, CVPR 2018) compute: the last stage of a ResNet has stride 1 and no
    dilation; that of a ResNeSt has dilation 2 after its first block, which averages over 3 x 3 pixels.
    Other families run as timm builds them: the last stage has stride 1 and is dilated.

    Args:
        name: a timm model name or one of `ALIASES`.
        output_stride: stride of the last level, 16 or 32.

    Raises:
        ValueError: for an unknown name, a model without five feature levels, or one that cannot run at the
            output stride.
    """
    import timm

    if output_stride not in (16, 32):
        raise ValueError(f"output stride must be 16 or 32, not {output_stride}")
    model_name = resolve_backbone(name)
    strides = [2, 4, 8, 16, output_stride]
    advice = "choose one with five feature levels, such as resnet50, resnest101 or efficientnet_lite0"
    stride_option = {} if output_stride == 32 else {"output_stride": output_stride}
    try:
        backbone = timm.create_model(model_name, pretrained=False, num_classes=0, **stride_option)
    except (TypeError, AssertionError) as error:
        message = f"timm cannot run backbone {name!r} at output stride {output_stride}: {advice}"
        raise ValueError(message) from error
    except RuntimeError as error:
        raise ValueError(f"timm cannot create backbone {name!r}: {error}") from error
    found = [level["reduction"] for level in getattr(backbone, "feature_info", [])]
    if found[-LEVELS:] != strides:
        levels = f"at strides {', '.join(map(str, found))}" if found else "nowhere"
        raise ValueError(f"backbone {name!r} has its feature levels {levels}, not at {strides}: {advice}")
    if output_stride == 16 and isinstance(backbone, timm.models.ResNet):
        _publish_last_stage(backbone.layer4)
    return cast(nn.Module, backbone)


def _publish_last_stage(stage: nn.Sequential) -> None:
    from timm.models.resnest import ResNestBottleneck
    from timm.models.resnet import BasicBlock, Bottleneck

    first = stage[0]
    if not isinstance(first, BasicBlock | Bottleneck | ResNestBottleneck):
        return
    if first.downsample is not None and not isinstance(first.downsample[0], nn.Conv2d):
        first.downsample[0] = nn.Identity()
    if isinstance(first, ResNestBottleneck):
        first.avd_last = nn.AvgPool2d(3, stride=1, padding=1)
        return
    for module in stage.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            module.dilation, module.padding = (1, 1), (1, 1)


def pyramid(backbone: nn.Module, x: Tensor) -> list[Tensor]:
    """Five feature levels of images (B, 3, H, W): (B, C, h, w) at the strides of `pyramid_strides`.

    The first level is the stem after a max pooling of 3 with stride 2, as the published networks use it.
    """
    model: Any = backbone
    levels = model.forward_intermediates(x, indices=LEVELS, intermediates_only=True)
    return [F.max_pool2d(levels[0], kernel_size=3, stride=2, padding=1), *levels[1:]]


def features_and_levels(backbone: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """What `forward_features` gives and, of the same pass, the five levels of `pyramid`, the stem's not yet pooled."""
    model: Any = backbone
    features, levels = model.forward_intermediates(x, indices=LEVELS)
    return features, levels


def forward_features(backbone: nn.Module, x: Tensor) -> Tensor:
    """The features under the classifier: images (B, 3, H, W) to (B, C, h, w) with C of `feature_channels`."""
    model: Any = backbone
    return cast(Tensor, model.forward_features(x))


def pyramid_channels(backbone: nn.Module) -> list[int]:
    """Channels of the five levels of `pyramid`."""
    model: Any = backbone
    return [level["num_chs"] for level in model.feature_info[-LEVELS:]]


def pyramid_strides(backbone: nn.Module) -> list[int]:
    """Strides of the five levels of `pyramid`: 4, 4, 8, 16, 16 at output stride 16."""
    model: Any = backbone
    return [max(4, level["reduction"]) for level in model.feature_info[-LEVELS:]]


def feature_channels(backbone: nn.Module) -> int:
    """Channels of `forward_features`."""
    return cast(int, backbone.num_features)


def normalisation(backbone: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of R, G, B, for images in [0, 1], that the pretrained weights expect."""
    model: Any = backbone
    return tuple(model.pretrained_cfg["mean"]), tuple(model.pretrained_cfg["std"])


def training_side(backbone: nn.Module) -> int:
    """Side in pixels of the square images that the pretrained weights were trained on."""
    model: Any = backbone
    return min(model.pretrained_cfg["input_size"][1:])


def freeze_outside_pyramid(backbone: nn.Module) -> None:
    """Take the parameters that `pyramid` does not read out of training, as distributed training demands.

    They keep their names and values, so that all networks on one backbone share one set of keys.
    """
    used: Any = copy.deepcopy(backbone)
    used.prune_intermediate_layers(LEVELS, prune_norm=True, prune_head=True)
    names = {name for name, _ in used.named_parameters()}
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(name in names)


def hold_statistics(network: nn.Module) -> None:
    """Let every batch normalisation use its stored mean and variance and never update them.

    Weights and biases stay trainable. `train()` undoes this, so a network with fixed statistics calls it from
    its own `train()`.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


Role = Literal["backbone_weight", "backbone_bias", "new_weight", "new_bias"]
ROLES: tuple[Role, ...] = ("backbone_weight", "backbone_bias", "new_weight", "new_bias")


class ParameterGroup(TypedDict):
    """Trainable parameters with one role."""

    params: list[nn.Parameter]
    role: Role


def parameter_groups(network: nn.Module) -> list[ParameterGroup]:
    """Trainable parameters by role, in the order of `ROLES`; a role without parameters is left out.

    Pretrained layers live under `network.backbone`, all others are new. Scales of normalisations count as
    weights. The published recipe (Jo & Yu, ICIP 2021) multiplies the learning rate by 1, 2, 10 and 20 and
    decays the weights only.
    """
    params: dict[Role, list[nn.Parameter]] = {role: [] for role in ROLES}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            bias = name.endswith("bias")
            if name.startswith("backbone."):
                params["backbone_bias" if bias else "backbone_weight"].append(parameter)
            else:
                params["new_bias" if bias else "new_weight"].append(parameter)
    return [{"params": members, "role": role} for role, members in params.items() if members]
