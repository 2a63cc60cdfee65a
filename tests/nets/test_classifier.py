import pytest
import torch

from pfit_ray.nets.classifier import CamClassifier


def test_maps_logits_and_scores():
    network = CamClassifier("resnet18", 3).eval()
    x = torch.randn(2, 3, 33, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        maps = network(x)
        again, scores = network.maps_and_scores(x)
    assert maps.shape == (2, 3, 3, 4)
    assert torch.equal(maps, again)
    torch.testing.assert_close(scores, torch.sigmoid(maps.mean((2, 3))))
    assert network.score_side is None


def test_logits_are_the_spatial_mean():
    network = CamClassifier("resnet18", 1)
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [0.0, -4.0]]]])
    assert network.logits(maps).tolist() == [[3.0, -1.0]]


@pytest.mark.parametrize("fixed_bn", [True, False])
def test_fixed_bn(fixed_bn):
    network = CamClassifier("resnet18", 2, fixed_bn=fixed_bn)
    before = network.backbone.bn1.running_mean.clone()
    network(torch.ones(2, 3, 32, 32))
    network.eval().train()
    network(torch.ones(2, 3, 32, 32)).sum().backward()
    assert torch.equal(network.backbone.bn1.running_mean, before) == fixed_bn
    assert network.backbone.bn1.weight.grad is not None
    assert network.training


def test_parameter_groups_of_the_published_recipe():
    groups = CamClassifier("resnet50", 20).parameter_groups()
    assert [(group["role"], len(group["params"])) for group in groups] == [
        ("backbone_weight", 106),
        ("backbone_bias", 53),
        ("new_weight", 1),
    ]


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilevit_xxs"])
def test_every_parameter_learns(name):
    network = CamClassifier(name, 2)
    network(torch.ones(2, 3, 32, 32)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_no_class():
    with pytest.raises(ValueError, match="at least one class, not 0"):
        CamClassifier("resnet18", 0)
