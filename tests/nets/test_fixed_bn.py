import torch
from torch import nn

from pfit_ray.nets.fixed_bn import hold_statistics


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
