"""The device that a worker's networks run on."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # workers without a network start without torch
    import torch


def pick_device() -> "torch.device":
    """The GPU that this worker was given, or the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
