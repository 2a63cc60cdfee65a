import socket

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from pfit_ray.nets.backbones import (
    create_backbone,
    feature_channels,
    features_and_levels,
    forward_features,
    freeze_outside_pyramid,
    hold_statistics,
    normalisation,
    parameter_groups,
    pyramid,
    pyramid_channels,
    pyramid_strides,
    resolve_backbone,
    training_side,
)

FAMILIES = ["resnet18", "resnest14d", "efficientnet_lite0", "regnety_002", "mobilevit_xxs", "darknet17"]


@pytest.mark.parametrize("name", FAMILIES)
def test_pyramid_has_five_levels(name):
    backbone = create_backbone(name).eval()
    assert pyramid_strides(backbone) == [4, 4, 8, 16, 16]
    for size in ((64, 96), (1, 1), (33, 50)):
        x = torch.zeros(1, 3, *size)
        with torch.no_grad():
            levels = pyramid(backbone, x)
            features = forward_features(backbone, x)
        assert [level.shape[1] for level in levels] == pyramid_channels(backbone)
        expected = [tuple(-(-side // stride) for side in size) for stride in (4, 4, 8, 16, 16)]
        assert [tuple(level.shape[2:]) for level in levels] == expected
        assert features.shape == (1, feature_channels(backbone), *expected[-1])


def test_first_level_is_the_published_stem():
    backbone = create_backbone("resnet18").eval()
    x = torch.randn(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        stem = backbone.maxpool(F.relu(backbone.bn1(backbone.conv1(x))))
        levels = pyramid(backbone, x)
    assert torch.equal(levels[0], stem)
    assert torch.equal(levels[1], backbone.layer1(stem))


def convolutions(stage):
    return [module for module in stage.modules() if isinstance(module, nn.Conv2d)]


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50d"])
def test_resnet_is_not_dilated(name):
    plain, strided = create_backbone(name), create_backbone(name, output_stride=32)
    pairs = list(zip(convolutions(plain.layer4), convolutions(strided.layer4), strict=True))
    assert all(ours.dilation == (1, 1) and ours.padding == theirs.padding for ours, theirs in pairs)
    assert all(ours.stride == (1, 1) for ours, _ in pairs)
    assert any(theirs.stride == (2, 2) for _, theirs in pairs)


def test_resnest_is_dilated_after_the_first_block_of_the_last_stage():
    backbone = create_backbone("resnest50")
    dilations = [block.conv2.conv.dilation for block in backbone.layer4]
    assert dilations == [(1, 1), (2, 2), (2, 2)]
    assert all(c.dilation == (1, 1) for stage in (backbone.layer1, backbone.layer3) for c in convolutions(stage))
    pools = [stage[0].avd_last for stage in (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4)]
    assert pools[0] is None
    assert [(pool.kernel_size, pool.stride, pool.padding) for pool in pools[1:]] == [
        (3, 2, 1),
        (3, 2, 1),
        (3, 1, 1),
    ]
    assert isinstance(backbone.layer4[0].downsample[0], nn.Identity)


def test_other_families_run_as_timm_builds_them():
    ours = create_backbone("tf_efficientnet_lite0").eval()
    timms = timm.create_model("tf_efficientnet_lite0", pretrained=False, output_stride=16).eval()
    ours.load_state_dict({name: timms.state_dict()[name] for name in ours.state_dict()})
    x = torch.ones(1, 3, 48, 48)
    with torch.no_grad():
        assert torch.equal(forward_features(ours, x), timms.forward_features(x))


def test_output_stride_32():
    backbone = create_backbone("resnet18", output_stride=32).eval()
    with torch.no_grad():
        assert forward_features(backbone, torch.zeros(1, 3, 64, 64)).shape == (1, 512, 2, 2)
    assert pyramid_strides(backbone) == [4, 4, 8, 16, 32]
    with pytest.raises(ValueError, match="output stride must be 16 or 32, not 8"):
        create_backbone("resnet18", output_stride=8)


def test_names_of_the_field():
    names = ("resnest50", "resnest101", "resnest200", "resnest269", "efficientnet_lite0", "resnet50")
    assert [resolve_backbone(name) for name in names] == [
        "resnest50d",
        "resnest101e",
        "resnest200e",
        "resnest269e",
        "tf_efficientnet_lite0",
        "resnet50",
    ]


def test_unknown_names():
    with pytest.raises(ValueError, match=r"unknown backbone 'resnest10': did you mean .*resnest101"):
        create_backbone("resnest10")
    with pytest.raises(ValueError, match=r"see timm.list_models\(\)"):
        create_backbone("@@@@")
    with pytest.raises(ValueError, match="unknown backbone 'hf-hub:timm/resnet50'"):
        create_backbone("hf-hub:timm/resnet50")
    with pytest.raises(ValueError, match=r"timm cannot create backbone 'resnet50.bogus': .*bogus"):
        create_backbone("resnet50.bogus")


def test_backbones_without_a_pyramid():
    with pytest.raises(ValueError, match="timm cannot run backbone 'vit_tiny_patch16_224' at output stride 16"):
        create_backbone("vit_tiny_patch16_224")
    with pytest.raises(ValueError, match="'convnext_atto' has its feature levels at strides 4, 8, 16, 16, not at"):
        create_backbone("convnext_atto")
    with pytest.raises(ValueError, match="timm cannot run backbone 'densenet121' at output stride 16"):
        create_backbone("densenet121")


def test_nothing_is_downloaded(monkeypatch):
    def refuse(*_args):
        raise AssertionError("network access")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    create_backbone("resnet18")


def test_preprocessing():
    lite, resnet = create_backbone("efficientnet_lite0"), create_backbone("resnet18")
    assert normalisation(lite) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert normalisation(resnet) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert training_side(lite) == 224


@pytest.mark.parametrize("name", FAMILIES)
def test_freeze_outside_pyramid(name):
    backbone = create_backbone(name).eval()
    freeze_outside_pyramid(backbone)
    trainable = {key for key, parameter in backbone.named_parameters() if parameter.requires_grad}
    backbone.requires_grad_(True)
    sum(level.sum() for level in pyramid(backbone, torch.ones(1, 3, 32, 32))).backward()
    read = {key for key, parameter in backbone.named_parameters() if parameter.grad is not None}
    assert trainable == read
    assert ("conv_head.weight" in dict(backbone.named_parameters())) == (name == "efficientnet_lite0")


def test_stored_statistics_normalise_and_stay():
    network = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.0))
    network[0].running_mean.fill_(2.0)
    network[0].running_var.fill_(4.0)
    network.train()
    hold_statistics(network)
    x = torch.tensor([[[[2.0, 6.0]]]])
    y = network(x)
    torch.testing.assert_close(y, torch.tensor([[[[0.0, 2.0]]]]), atol=1e-4, rtol=0)
    assert network[0].running_mean.item() == 2.0
    assert network[0].num_batches_tracked.item() == 0
    assert network[1].training


def test_weight_and_bias_get_gradients():
    network = nn.BatchNorm2d(1).train()
    hold_statistics(network)
    network(torch.tensor([[[[1.0, 3.0]]]])).sum().backward()
    torch.testing.assert_close(network.weight.grad, torch.tensor([4.0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(network.bias.grad, torch.tensor([2.0]))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4))
        self.head = nn.Conv2d(4, 2, 1)


def names(network):
    own = {id(parameter): name for name, parameter in network.named_parameters()}
    return {group["role"]: [own[id(p)] for p in group["params"]] for group in parameter_groups(network)}


def test_four_roles():
    assert names(Network()) == {
        "backbone_weight": ["backbone.0.weight", "backbone.1.weight"],
        "backbone_bias": ["backbone.1.bias"],
        "new_weight": ["head.weight"],
        "new_bias": ["head.bias"],
    }


def test_frozen_parameters_and_empty_roles_are_left_out():
    network = Network()
    network.backbone.requires_grad_(False)
    network.head.bias.requires_grad_(False)
    assert names(network) == {"new_weight": ["head.weight"]}


@pytest.mark.parametrize("name", FAMILIES)
def test_features_and_levels_come_from_one_pass_bit_for_bit(name):
    backbone = create_backbone(name).eval()
    x = torch.randn(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features, levels = features_and_levels(backbone, x)
        assert torch.equal(features, forward_features(backbone, x))
        assert all(torch.equal(one, other) for one, other in zip(levels[1:], pyramid(backbone, x)[1:], strict=True))
