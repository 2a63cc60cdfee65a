"""Checkpoints of the published programs (PuzzleCAM, PerimeterFit), translated to our networks."""

import re
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from pfit_ray.nets.affinitynet import AffinityNet
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.nets.weights import fit_state

PublishedNetwork = Literal["classifier", "affinitynet", "deeplab"]

# A published checkpoint holds each tensor under several names. The first pattern that matches gives ours.
_RENAMES = (
    (r"^(stage1|backbone\.0)\.0\.", "backbone.conv1."),
    (r"^(stage1|backbone\.0)\.1\.", "backbone.bn1."),
    *((rf"^(stage{k + 1}|backbone\.{k})\.0\.", f"backbone.layer{k}.") for k in range(1, 5)),
    (r"^model\.", "backbone."),
    *((rf"^(fc_edge{k + 1}|edge_layers\.{k})\.0\.", f"edge_heads.{k}.conv.") for k in range(5)),
    *((rf"^(fc_edge{k + 1}|edge_layers\.{k})\.1\.", f"edge_heads.{k}.norm.") for k in range(5)),
    (r"^(fc_edge6|edge_layers\.5)\.", "edge_fusion."),
    *((rf"^aspp\.aspp{k + 1}\.atrous_conv\.", f"aspp.branches.{k}.conv.") for k in range(4)),
    *((rf"^aspp\.aspp{k + 1}\.bn\.", f"aspp.branches.{k}.norm.") for k in range(4)),
    (r"^aspp\.global_avg_pool\.1\.", "aspp.pooling.conv."),
    (r"^aspp\.global_avg_pool\.2\.", "aspp.pooling.norm."),
    (r"^aspp\.conv1\.", "aspp.projection.conv."),
    (r"^aspp\.bn1\.", "aspp.projection.norm."),
    (r"^decoder\.conv1\.", "decoder.low_level.conv."),
    (r"^decoder\.bn1\.", "decoder.low_level.norm."),
    (r"^decoder\.classifier\.0\.", "decoder.refinement.0.conv."),
    (r"^decoder\.classifier\.1\.", "decoder.refinement.0.norm."),
    (r"^decoder\.classifier\.4\.", "decoder.refinement.2.conv."),
    (r"^decoder\.classifier\.5\.", "decoder.refinement.2.norm."),
    (r"^decoder\.classifier\.8\.", "decoder.classifier."),
)


def convert_published(state: Mapping[str, Tensor], network: PublishedNetwork, backbone: str) -> dict[str, Tensor]:
    """Translate a published state dict to that of `CamClassifier`, `AffinityNet` or `DeepLabV3Plus`.

    The numbers of classes, and whether DeepLabv3+ has GroupNorm, follow from the tensors. Path indices of
    AffinityNet are dropped: they are computed where they are needed.

    Args:
        state: tensors by name as the published programs saved them; one of a tensor's several names suffices.
        network: which network the checkpoint holds.
        backbone: name of its backbone, for example `resnet50` or `resnest101`.

    Returns:
        Our state dict: every tensor of `state` has a place in it, every parameter of the network a value.

    Raises:
        ValueError: when two names of one tensor disagree, or the tensors do not fit network and backbone.
    """
    converted: dict[str, Tensor] = {}
    for published_name, tensor in state.items():
        if published_name.startswith("path_indices_"):
            continue
        name = _rename(published_name)
        if name in converted and not torch.equal(converted[name], tensor):
            raise ValueError(f"the published checkpoint holds two different values of {published_name!r}")
        converted[name] = tensor
    with torch.device("meta"):
        template = _template(converted, network, backbone)
    return fit_state(template, converted, f"published {network} checkpoint")


def _rename(name: str) -> str:
    for pattern, replacement in _RENAMES:
        if re.match(pattern, name):
            return re.sub(pattern, replacement, name)
    return name


def _template(state: Mapping[str, Tensor], network: PublishedNetwork, backbone: str) -> nn.Module:
    match network:
        case "affinitynet":
            return AffinityNet(backbone)
        case "classifier":
            return CamClassifier(backbone, _rows(state, CamClassifier.class_tensor, network))
        case "deeplab":
            group_norm = "aspp.projection.norm.running_mean" not in state
            n_labels = _rows(state, DeepLabV3Plus.class_tensor, network)
            return DeepLabV3Plus(backbone, n_labels, group_norm=group_norm)
    raise ValueError(f"unknown published network {network!r}: use classifier, affinitynet or deeplab")


def _rows(state: Mapping[str, Tensor], name: str, network: str) -> int:
    if name not in state:
        raise ValueError(f"the published checkpoint holds no {network}: its last layer is missing")
    return len(state[name])
