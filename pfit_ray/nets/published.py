"""Checkpoints of the published programs (PuzzleCAM, PerimeterFit), translated to our networks."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor, nn

from pfit_ray import storage
from pfit_ray.constants import VOC_CLASSES, ClassList
from pfit_ray.errors import UserError
from pfit_ray.nets.affinitynet import AffinityNet
from pfit_ray.nets.backbones import create_backbone, resolve_backbone
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.nets.networks import rebuild_network
from pfit_ray.nets.weights import load_into, misfits, read_state, save_network, summarise, with_counters

PublishedNetwork = Literal["classifier", "affinitynet", "deeplab"]

PUBLISHED_CLASSES: dict[PublishedNetwork, type[nn.Module]] = {
    "classifier": CamClassifier,
    "affinitynet": AffinityNet,
    "deeplab": DeepLabV3Plus,
}
"""Our class for each network."""

PUBLISHED_BACKBONES = ("resnet50", "resnet101", "resnet152", "resnest50", "resnest101", "resnest200", "resnest269")
"""Backbones that the published programs know."""

# A published checkpoint holds each tensor under several names: their prefixes, and ours. Where several of theirs stand
# for one of ours, messages use the first.
_PREFIXES = (
    ("model.", "backbone."),
    *((f"{alias}.0.", "backbone.conv1.") for alias in ("stage1", "backbone.0")),
    *((f"{alias}.1.", "backbone.bn1.") for alias in ("stage1", "backbone.0")),
    *((f"{alias}.0.", f"backbone.layer{k}.") for k in range(1, 5) for alias in (f"stage{k + 1}", f"backbone.{k}")),
    *((f"{alias}.0.", f"edge_heads.{k}.conv.") for k in range(5) for alias in (f"fc_edge{k + 1}", f"edge_layers.{k}")),
    *((f"{alias}.1.", f"edge_heads.{k}.norm.") for k in range(5) for alias in (f"fc_edge{k + 1}", f"edge_layers.{k}")),
    *((f"{alias}.", "edge_fusion.") for alias in ("fc_edge6", "edge_layers.5")),
    *((f"aspp.aspp{k + 1}.atrous_conv.", f"aspp.branches.{k}.conv.") for k in range(4)),
    *((f"aspp.aspp{k + 1}.bn.", f"aspp.branches.{k}.norm.") for k in range(4)),
    ("aspp.global_avg_pool.1.", "aspp.pooling.conv."),
    ("aspp.global_avg_pool.2.", "aspp.pooling.norm."),
    ("aspp.conv1.", "aspp.projection.conv."),
    ("aspp.bn1.", "aspp.projection.norm."),
    ("decoder.conv1.", "decoder.low_level.conv."),
    ("decoder.bn1.", "decoder.low_level.norm."),
    ("decoder.classifier.0.", "decoder.refinement.0.conv."),
    ("decoder.classifier.1.", "decoder.refinement.0.norm."),
    ("decoder.classifier.4.", "decoder.refinement.2.conv."),
    ("decoder.classifier.5.", "decoder.refinement.2.norm."),
    ("decoder.classifier.8.", "decoder.classifier."),
)

_PUBLISHED_NAME = re.compile(
    r"(model\.(conv1|bn1|layer[1-4])|stage1\.[01]|stage[2-5]\.0\.\d+|backbone\.\d|fc_edge\d|edge_layers\.\d"
    r"|aspp\.(aspp\d|global_avg_pool|conv1|bn1)|decoder\.(conv1|bn1|classifier\.\d))\."
)

_HEADS: dict[PublishedNetwork, tuple[str, ...]] = {
    "classifier": ("classifier.",),
    "affinitynet": ("edge_heads.", "edge_fusion."),
    "deeplab": ("aspp.", "decoder."),
}


def is_published(state: Mapping[str, Tensor]) -> bool:
    """Whether any tensor has a name that only the published programs give."""
    return any(_PUBLISHED_NAME.match(name) for name in state)


def rename_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a published checkpoint by our names, without AffinityNet's path indices.

    Path indices are computed where they are needed.

    Raises:
        ValueError: when two names of one tensor disagree.
    """
    renamed: dict[str, Tensor] = {}
    first_names: dict[str, str] = {}
    for published_name, tensor in state.items():
        if published_name.startswith("path_indices_"):
            continue
        name = _ours(published_name)
        if name in renamed and not torch.equal(renamed[name], tensor):
            pair = f"{first_names[name]!r} and {published_name!r}"
            raise ValueError(f"the checkpoint holds two different values of one tensor, as {pair}")
        renamed.setdefault(name, tensor)
        first_names.setdefault(name, published_name)
    return renamed


def convert_published(state: Mapping[str, Tensor], network: PublishedNetwork, backbone: str) -> dict[str, Tensor]:
    """Translate a published state dict to that of `CamClassifier`, `AffinityNet` or `DeepLabV3Plus`.

    The numbers of classes, and whether DeepLabv3+ has GroupNorm, follow from the tensors.

    Args:
        state: tensors by name as the published programs saved them; one of the names of a tensor suffices.
        network: which network the checkpoint holds.
        backbone: name of its backbone, for example `resnet50` or `resnest101`.

    Returns:
        Our state dict: every tensor of `state` has a place in it, every parameter of the network a value.

    Raises:
        ValueError: in one clause, when two names of one tensor disagree, or the tensors do not fit network and
            backbone.
    """
    if network not in PUBLISHED_CLASSES:
        choices = ", ".join(get_args(PublishedNetwork))
        raise ValueError(f"unknown published network {network!r}: choose from {choices}")
    backbone_name = resolve_backbone(backbone)
    if not is_published(state):
        raise ValueError(
            "this is not a checkpoint of the published programs: none of its tensors has a name that these give "
            "(weights of a backbone alone belong in backbone.weights)"
        )
    converted = rename_published(state)
    _check_head(converted, network)
    with torch.device("meta"):
        template = rebuild_network(PUBLISHED_CLASSES[network].__name__, backbone, converted)
    completed = with_counters(template.state_dict(), converted)
    found = misfits(template.state_dict(), completed, _theirs)
    if not found:
        return completed
    other = identify_backbone(_backbone_part(converted))
    if other is not None and resolve_backbone(other) != backbone_name:
        raise ValueError(f"the checkpoint holds a network on {other}, not on {backbone}")
    raise ValueError(f"the checkpoint does not fit {network} on {backbone}: {summarise(found)}")


def identify_backbone(state: Mapping[str, Tensor]) -> str | None:
    """Which of `PUBLISHED_BACKBONES` has exactly these tensors, by timm's names and their shapes, if any."""
    templates = ((name, _template(name)) for name in PUBLISHED_BACKBONES)
    return next((name for name, wanted in templates if not misfits(wanted, with_counters(wanted, state))), None)


@cache
def _template(backbone: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        state: dict[str, Tensor] = create_backbone(backbone).state_dict()
    return state


def _check_head(converted: Mapping[str, Tensor], network: PublishedNetwork) -> None:
    present = [kind for kind, heads in _HEADS.items() if any(name.startswith(heads) for name in converted)]
    if network not in present:
        held = f"holds the network {present[0]}" if present else "holds a backbone alone"
        raise ValueError(f"the checkpoint {held}, not {network}")
    decisive = str(getattr(PUBLISHED_CLASSES[network], "class_tensor", ""))
    if decisive and decisive not in converted:
        raise ValueError(f"the last layer of {network} is missing in the checkpoint: {_theirs(decisive)!r}")


def _backbone_part(converted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = "backbone."
    return {name.removeprefix(prefix): tensor for name, tensor in converted.items() if name.startswith(prefix)}


def _ours(name: str) -> str:
    return next((ours + name.removeprefix(theirs) for theirs, ours in _PREFIXES if name.startswith(theirs)), name)


def _theirs(name: str) -> str:
    return next((theirs + name.removeprefix(ours) for theirs, ours in _PREFIXES if name.startswith(ours)), name)


class Imported(NamedTuple):
    """What an import wrote: the sha256 of the file, and what its network is."""

    url: str
    sha256: str
    network: str
    backbone: str
    n_parameters: int
    n_classes: int | None
    """Foreground classes; an AffinityNet knows none."""
    names: tuple[str, ...]
    """Their names in the file's metadata; empty when they are not known."""

    def describe(self) -> str:
        """One line for people."""
        named = f" ({self.names[0]} ... {self.names[-1]})" if self.names else " without names"
        classes = "no classes" if self.n_classes is None else f"{self.n_classes} classes{named}"
        return (
            f"{self.url}: {self.network} on {self.backbone}, {self.n_parameters:,} parameters, {classes}, "
            f"sha256 {self.sha256}"
        )


def import_checkpoint(
    source: str, network: str, backbone: str, output: str, classes: Sequence[str] | None = None
) -> Imported:
    """Translate a checkpoint of the published programs to a .safetensors file of this package.

    Args:
        source: path or URL of the checkpoint.
        network: `classifier`, `affinitynet` or `deeplab`.
        backbone: name of its backbone, such as `resnest101`.
        output: path or URL of the file to write.
        classes: names of the foreground classes, in the order of their ids; by default those of PASCAL VOC where
            there are 20 of them, else none are written.

    Raises:
        UserError: one sentence, when a file cannot be read or written, or the checkpoint does not fit.
    """
    if network not in get_args(PublishedNetwork):
        raise UserError(f"--network {network}: choose from {', '.join(get_args(PublishedNetwork))}")
    if storage.absolute(source) == storage.absolute(output):
        raise UserError(f"--output {output} is the checkpoint itself; choose another file")
    try:
        state, metadata = read_state(source)
        if "network" in metadata:
            field = "classifier.weights, affinitynet.weights or deeplab.weights"
            raise ValueError(f"the file is in this package's own format already; name it in the config's {field}")
        kind = cast(PublishedNetwork, network)
        state = convert_published(state, kind, backbone)
        restored = rebuild_network(PUBLISHED_CLASSES[kind].__name__, backbone, state)
        load_into(restored, state, "the checkpoint")
        n_classes = _count_classes(restored)
        names = _names(n_classes, classes)
    except FileNotFoundError as error:
        raise UserError(f"{source}: there is no such file") from error
    except OSError as error:
        raise UserError(f"{source} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{source}: {error}") from error
    data = save_network(restored, {"classes": json.dumps(names)} if names else {})
    try:
        storage.write_bytes(output, data)
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror or error}") from error
    n_parameters = sum(parameter.numel() for parameter in restored.parameters())
    digest = hashlib.sha256(data).hexdigest()
    return Imported(output, digest, network, backbone, n_parameters, n_classes, names)


def _count_classes(network: nn.Module) -> int | None:
    class_tensor = getattr(network, "class_tensor", None)
    if class_tensor is None:
        return None
    background = isinstance(network, PUBLISHED_CLASSES["deeplab"])
    return len(network.state_dict()[class_tensor]) - background


def _names(n_classes: int | None, classes: Sequence[str] | None) -> tuple[str, ...]:
    if classes is None:
        return VOC_CLASSES if n_classes == len(VOC_CLASSES) else ()
    if n_classes is None:
        raise ValueError("an AffinityNet knows no classes; leave --classes out")
    if len(classes) != n_classes:
        raise ValueError(f"the checkpoint is for {n_classes} classes, but --classes names {len(classes)}")
    return ClassList(tuple(classes)).names
