"""Trained networks from weight files that name what they hold."""

from collections.abc import Mapping

from torch import Tensor, nn

from pfit_ray.errors import UserError
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.weights import load_into, load_state
from pfit_ray.storage.cache import read_weights


def rebuild_network(kind: str, backbone: str, state: Mapping[str, Tensor]) -> nn.Module:
    """A network of which the number of classes, and the norm of its head, follow from tensors.

    Args:
        kind: its class as `save_network` writes it: `CamClassifier`, `ZeroShotClassifier`, `AffinityNet` or
            `DeepLabV3Plus`.
        backbone: a timm model or alias, see `create_backbone`.
        state: tensors by our names; only their shapes are looked at.

    Returns:
        The network with random weights.

    Raises:
        ValueError: for another kind, a backbone that does not fit, or when the tensor that tells a number is missing.
    """
    match kind:  # a worker imports its own network alone
        case "CamClassifier":
            return CamClassifier(backbone, _rows(state, CamClassifier.class_tensor))
        case "ZeroShotClassifier":
            from pfit_ray.nets.zero_shot import ZeroShotClassifier

            n_classes = _rows(state, ZeroShotClassifier.class_tensor)
            return ZeroShotClassifier(backbone, n_classes, n_rows=_rows(state, "head_weight"))
        case "AffinityNet":
            from pfit_ray.nets.affinitynet import AffinityNet

            return AffinityNet(backbone)
        case "DeepLabV3Plus":
            from pfit_ray.nets.deeplab import DeepLabV3Plus

            group_norm = "aspp.projection.norm.running_mean" not in state
            return DeepLabV3Plus(backbone, _rows(state, DeepLabV3Plus.class_tensor), group_norm=group_norm)
    raise ValueError("the file does not say which network it holds; name it in the config's weights field instead")


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


def _rows(state: Mapping[str, Tensor], name: str) -> int:
    if name not in state or not state[name].ndim:
        raise ValueError(f"the tensor {name!r} is missing or has no rows")
    return len(state[name])
