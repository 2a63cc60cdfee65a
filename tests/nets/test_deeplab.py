import pytest
import torch
from torch import nn

from pfit_ray.nets.deeplab import AtrousPyramidPooling, DeepLabV3Plus


@pytest.mark.parametrize("size", [(64, 96), (33, 50), (1, 1)])
@pytest.mark.parametrize("group_norm", [True, False])
def test_logits_have_the_size_of_the_image(size, group_norm):
    network = DeepLabV3Plus("resnet18", 3, group_norm=group_norm).eval()
    with torch.no_grad():
        assert network(torch.ones(1, 3, *size)).shape == (1, 3, *size)


def test_a_batch_of_one_trains_with_the_defaults():
    network = DeepLabV3Plus("efficientnet_lite0", 2).train()
    before = network.backbone.bn1.running_mean.clone()
    network(torch.ones(1, 3, 32, 32)).square().sum().backward()
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None for parameter in trainable)
    assert torch.equal(network.backbone.bn1.running_mean, before)


def test_free_batch_norm_needs_two_images():
    network = DeepLabV3Plus("resnet18", 2, group_norm=False, fixed_bn=False).train()
    before = network.decoder.low_level.norm.running_mean.clone()
    network(torch.ones(2, 3, 32, 32))
    assert not torch.equal(network.decoder.low_level.norm.running_mean, before)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        network(torch.ones(1, 3, 32, 32))


def test_layers_of_the_head():
    aspp = AtrousPyramidPooling(8, group_norm=True)
    convolutions = [branch.conv for branch in aspp.branches]
    assert [conv.kernel_size for conv in convolutions] == [(1, 1), (3, 3), (3, 3), (3, 3)]
    assert [conv.dilation for conv in convolutions] == [(1, 1), (6, 6), (12, 12), (18, 18)]
    assert [conv.padding for conv in convolutions] == [(0, 0), (6, 6), (12, 12), (18, 18)]
    assert aspp.projection.conv.in_channels == 1280
    assert all(norm.num_groups == 4 for norm in aspp.modules() if isinstance(norm, nn.GroupNorm))


def test_convolutions_start_with_the_fan_in():
    torch.manual_seed(0)
    conv = DeepLabV3Plus("resnet18", 2).aspp.branches[1].conv
    assert conv.weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)


def test_parameter_groups_of_the_published_recipe():
    groups = DeepLabV3Plus("resnet50", 21).parameter_groups()
    assert [(group["role"], len(group["params"])) for group in groups] == [
        ("backbone_weight", 106),
        ("backbone_bias", 53),
        ("new_weight", 19),
        ("new_bias", 10),
    ]


def test_background_alone_is_refused():
    with pytest.raises(ValueError, match="background and one class at least, not 1"):
        DeepLabV3Plus("resnet18", 1)
