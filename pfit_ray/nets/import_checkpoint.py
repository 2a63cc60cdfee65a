"""Checkpoints of the published programs become weight files of this package."""

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple, cast, get_args

from torch import nn

from pfit_ray import storage
from pfit_ray.constants import VOC_CLASSES, ClassList
from pfit_ray.errors import UserError
from pfit_ray.nets.published import PUBLISHED_CLASSES, PublishedNetwork, convert_published
from pfit_ray.nets.rebuild import rebuild_network
from pfit_ray.nets.weights import load_into, load_state, save_network


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
        raise UserError(f"--output {output} is the checkpoint itself; give another place")
    try:
        state, metadata = load_state(storage.read_bytes(source))
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
