"""Batch normalisation with fixed statistics."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def hold_statistics(network: nn.Module) -> None:
    """Let every batch normalisation use its stored mean and variance and never update them.

    Weights and biases stay trainable. `train()` undoes this, so a network with fixed statistics calls it from
    its own `train()`.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
