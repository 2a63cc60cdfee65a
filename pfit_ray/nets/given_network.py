"""Networks that a config takes from a weight file instead of training them."""

import json
from typing import cast

from torch import nn

from pfit_ray import storage
from pfit_ray.config import RunConfig
from pfit_ray.errors import UserError
from pfit_ray.nets.backbones import resolve_backbone
from pfit_ray.nets.published import PUBLISHED_CLASSES, convert_published, is_published
from pfit_ray.nets.rebuild import rebuild_network
from pfit_ray.nets.weights import load_into, load_state
from pfit_ray.nets.zero_shot import ZeroShotClassifier
from pfit_ray.rundir.directory import Network


def given_network(config: RunConfig, name: Network) -> nn.Module:
    """The network of the file that `classifier.weights`, `affinitynet.weights` or `deeplab.weights` names.

    The file holds our tensors, with or without metadata that say what they are, or is a checkpoint of the published
    programs. Numbers of classes, and whether DeepLabv3+ has GroupNorm, follow from the tensors.

    Args:
        config: the run's config.
        name: which network; its source is `weights`.

    Raises:
        UserError: names the field and the file, when there is none or it does not fit the config.
    """
    section = getattr(config, name)
    url, backbone = section.weights, section.backbone.name
    try:
        resolve_backbone(backbone)
    except ValueError as error:
        raise UserError(f"config: {name}.backbone.name: {error}") from error
    try:
        state, metadata = load_state(storage.read_bytes(url))
        if is_published(state):
            state = convert_published(state, name, backbone)
        kind = metadata.get("network") or PUBLISHED_CLASSES[name].__name__
        _check_kind(kind, metadata.get("backbone"), name, backbone)
        network = rebuild_network(kind, backbone, state)
        load_into(network, state, "the file")
        _check_classes(network, metadata, config)
    except FileNotFoundError as error:
        raise UserError(f"config: {name}.weights names {url!r}, and there is no such file") from error
    except OSError as error:
        raise UserError(f"config: {name}.weights {url} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"config: {name}.weights {url}: {error}") from error
    return network


def _check_kind(kind: str, file_backbone: str | None, name: Network, backbone: str) -> None:
    fitting = [PUBLISHED_CLASSES[name].__name__]
    if name == "classifier":
        fitting.append(ZeroShotClassifier.__name__)
    if kind not in fitting:
        raise ValueError(f"the file holds a network {kind}, where {' or '.join(fitting)} is wanted")
    if file_backbone and _untagged(file_backbone) != _untagged(resolve_backbone(backbone)):
        raise ValueError(
            f"the file holds a network on {file_backbone}, but {name}.backbone.name is {backbone}; set it to "
            f"{file_backbone}, or take another file"
        )


def _untagged(timm_name: str) -> str:
    return timm_name.partition(".")[0]  # the tag names a set of pretrained weights


def _check_classes(network: nn.Module, metadata: dict[str, str], config: RunConfig) -> None:
    class_tensor = getattr(network, "class_tensor", None)
    if class_tensor is None:
        return
    background = int(isinstance(network, PUBLISHED_CLASSES["deeplab"]))
    n_rows, names = len(network.state_dict()[class_tensor]), config.data.class_list.names
    if n_rows != len(names) + background:
        counted = " and background" * background
        raise ValueError(
            f"the file is for {n_rows - background} classes{counted}, but the run has {len(names)} (data.classes)"
        )
    for class_id, file_name in enumerate(_file_classes(metadata), start=1):
        own_id = config.data.class_list.ids.get(file_name, class_id)
        if own_id != class_id:
            raise ValueError(
                f"class {file_name!r} has the id {class_id} in the file, but {own_id} in data.classes; give "
                "data.classes the order of the file"
            )


def _file_classes(metadata: dict[str, str]) -> list[str]:
    try:
        names = json.loads(metadata.get("classes", "[]"))
    except ValueError:  # the file of another program, which writes its classes in another way
        return []
    return cast(list[str], names) if isinstance(names, list) and all(isinstance(n, str) for n in names) else []
