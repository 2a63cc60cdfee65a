"""Trained networks from weight files that say themselves what they hold."""

from torch import nn

from pfit_ray.errors import UserError
from pfit_ray.nets.rebuild import rebuild_network
from pfit_ray.nets.weights import load_into, load_state
from pfit_ray.storage.cache import read_weights


def load_network(url: str) -> nn.Module:
    """A trained network for inference.

    Args:
        url: a .safetensors file as `save_network` makes it: its metadata names the network and the backbone,
            numbers of classes follow from its tensors.

    Returns:
        The network on the CPU, in evaluation mode.

    Raises:
        UserError: in one sentence, when there is no such file or it does not hold such a network.
    """
    try:
        state, metadata = load_state(read_weights(url))
        network = rebuild_network(metadata.get("network", ""), metadata.get("backbone", ""), state)
        load_into(network, state, "these weights")
    except FileNotFoundError as error:
        raise UserError(f"{url}: there are no weights; run the training or name a weight file") from error
    except ValueError as error:
        raise UserError(f"{url}: {error}") from error
    return network.eval()
