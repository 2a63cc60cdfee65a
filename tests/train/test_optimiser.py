import pytest
import torch
from torch import nn

from pfit_ray.config.training import TrainingConfig
from pfit_ray.nets.backbones import parameter_groups
from pfit_ray.train.optimiser import make_optimiser, poly_factor, set_learning_rate


class TinyNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(2, 2)
        self.head = nn.Linear(2, 1)


def optimiser(**options: object) -> torch.optim.SGD:
    return make_optimiser(parameter_groups(TinyNetwork()), TrainingConfig(learning_rate=0.1, **options))


def test_four_groups() -> None:
    groups = optimiser(weight_decay=1e-4).param_groups
    assert [(group["role"], group["lr"], group["weight_decay"]) for group in groups] == [
        ("backbone_weight", 0.1, 1e-4),
        ("backbone_bias", 0.2, 0.0),
        ("new_weight", 1.0, 1e-4),
        ("new_bias", 2.0, 0.0),
    ]
    assert [[tuple(p.shape) for p in group["params"]] for group in groups] == [[(2, 2)], [(2,)], [(1, 2)], [(1,)]]


def test_factors() -> None:
    groups = optimiser(new_layer_factor=5.0, bias_factor=1.0).param_groups
    assert [group["lr"] for group in groups] == [0.1, 0.1, 0.5, 0.5]


@pytest.mark.parametrize(
    ("options", "momentum", "nesterov"),
    [
        ({}, 0.9, True),
        ({"nesterov": False}, 0.9, False),
        ({"momentum": 0.0}, 0.0, False),
        ({"optimiser": "reference", "weight_decay": 1e-4}, 1e-4, True),
        ({"optimiser": "reference", "weight_decay": 4e-5, "nesterov": False}, 4e-5, True),
        ({"optimiser": "reference", "weight_decay": 0.0}, 0.0, False),
    ],
)
def test_momentum(options: dict[str, object], momentum: float, nesterov: bool) -> None:
    for group in optimiser(**options).param_groups:
        assert (group["momentum"], group["nesterov"]) == (momentum, nesterov)


def test_poly_schedule() -> None:
    factors = [poly_factor(step, 4, 0.9) for step in range(4)]
    assert factors == pytest.approx([1.0, 0.7718895, 0.5358867, 0.2871746])
    assert [poly_factor(step, 4, 1.0) for step in range(4)] == [1.0, 0.75, 0.5, 0.25]
    assert poly_factor(3, 4, 0.0) == 1.0


def test_learning_rate_scales_every_group() -> None:
    made = optimiser()
    set_learning_rate(made, 0.5)
    set_learning_rate(made, 0.25)
    assert [group["lr"] for group in made.param_groups] == [0.025, 0.05, 0.25, 0.5]


def test_reference_step_by_hand() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    training = TrainingConfig(learning_rate=0.1, weight_decay=0.01, optimiser="reference")
    made = make_optimiser([{"params": [weight], "role": "backbone_weight"}], training)
    value, velocity = 1.0, None
    for _ in range(3):
        weight.grad = torch.tensor([2.0])
        made.step()
        gradient = 2.0 + 0.01 * value
        velocity = gradient if velocity is None else 0.01 * velocity + gradient
        value -= 0.1 * (gradient + 0.01 * velocity)
    assert weight.item() == pytest.approx(value, rel=1e-6)
