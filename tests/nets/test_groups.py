from torch import nn

from pfit_ray.nets.groups import parameter_groups


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
