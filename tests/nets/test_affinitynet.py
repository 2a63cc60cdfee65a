import pytest
import torch

from pfit_ray.nets.affinitynet import AffinityNet, EdgeHead, fit_size


@pytest.mark.parametrize("size", [(64, 96), (61, 35), (1, 1), (5, 130)])
def test_one_logit_per_cell_of_the_strided_grid(size):
    network = AffinityNet("resnet18").eval()
    with torch.no_grad():
        logits = network(torch.ones(2, 3, *size))
    assert logits.shape == (2, 1, -(-size[0] // 4), -(-size[1] // 4))


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilevitv2_050", "cs3darknet_focus_s"])
def test_other_backbones(name):
    network = AffinityNet(name).eval()
    with torch.no_grad():
        assert network(torch.ones(1, 3, 65, 71)).shape == (1, 1, 17, 18)


def test_only_the_heads_learn():
    network = AffinityNet("resnet50").train()
    before = {name: tensor.clone() for name, tensor in network.backbone.state_dict().items()}
    network(torch.ones(1, 3, 32, 32)).sum().backward()
    groups = network.parameter_groups()
    assert [(group["role"], len(group["params"])) for group in groups] == [
        ("new_weight", 11),
        ("new_bias", 6),
    ]
    assert all(parameter.grad is not None for group in groups for parameter in group["params"])
    assert all(parameter.grad is None for parameter in network.backbone.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.backbone.state_dict().items())
    assert network.training
    assert not network.backbone.training


def test_a_head_enlarges_before_it_rectifies():
    head = EdgeHead(1, 2)
    torch.nn.init.ones_(head.conv.weight)
    y = head(torch.tensor([[[[-1.0, 1.0]]]]))
    # normalised to -1, 1; interpolated to -1, -0.5, 0.5, 1; then rectified
    torch.testing.assert_close(y[0, 0], torch.tensor([[0, 0, 0.5, 1]] * 2), atol=1e-4, rtol=0)


def test_fit_size():
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert fit_size(x, 1, 2).tolist() == [[[[1, 2]]]]
    assert fit_size(x, 3, 1).tolist() == [[[[1], [3], [3]]]]
