"""Stochastic gradient descent with four groups of parameters and a polynomial learning rate."""

from collections.abc import Sequence

import torch

from pfit_ray.config.training import TrainingConfig
from pfit_ray.nets.backbones import ParameterGroup


def make_optimiser(groups: Sequence[ParameterGroup], training: TrainingConfig) -> torch.optim.SGD:
    """SGD over groups of parameters by role.

    New layers take `new_layer_factor` times the learning rate, biases `bias_factor` times, and biases do not decay.
    Setting `optimiser: reference` reproduces a slip of the published programs (PuzzleCAM, Jo & Yu, ICIP 2021): the
    number of the weight decay becomes the momentum, with Nesterov's form.

    Each group keeps its own first learning rate under `base_lr` for `set_learning_rate`.
    """
    reference = training.optimiser == "reference"
    momentum = training.weight_decay if reference else training.momentum
    return torch.optim.SGD(
        [_with_rates(group, training) for group in groups],
        lr=training.learning_rate,
        momentum=momentum,
        nesterov=momentum > 0 and (reference or training.nesterov),
    )


def poly_factor(step: int, max_step: int, power: float) -> float:
    """Share of the first learning rate at a step 0 ... max_step - 1: (1 - step / max_step) ** power."""
    return float((1.0 - step / max_step) ** power)


def set_learning_rate(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Set every group to `factor` times its first learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = group["base_lr"] * factor


def _with_rates(group: ParameterGroup, training: TrainingConfig) -> dict[str, object]:
    layer, kind = group["role"].split("_")
    rate = training.learning_rate
    rate *= training.new_layer_factor if layer == "new" else 1.0
    rate *= training.bias_factor if kind == "bias" else 1.0
    decay = 0.0 if kind == "bias" else training.weight_decay
    return {**group, "lr": rate, "base_lr": rate, "weight_decay": decay}
