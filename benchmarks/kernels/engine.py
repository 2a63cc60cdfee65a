"""The three networks' forward passes on one CPU thread, by each engine: `network_engine`.

Networks have random weights, on which their speed does not depend. Seconds are CPU seconds.
"""

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from comparison import Comparison, peak_megabytes, photograph, timed_in_turn
from torch import Tensor, nn

from pfit_ray.constants import VOC_CLASSES, NetworkEngine
from pfit_ray.nets.affinitynet import AffinityNet
from pfit_ray.nets.backbones import normalisation
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.nets.engine import AGREEMENT, with_engine
from pfit_ray.tasks.base import OUTPUT_STRIDE
from pfit_ray.tasks.network_stage import normalised_batch, with_mirrors

BACKBONE = "efficientnet_lite0"
ENGINES: tuple[NetworkEngine, ...] = ("channels_last", "onnxruntime")
REPEAT = 3


def compare(device: str) -> Iterator[Comparison]:
    """Yield a row for each network and engine."""
    torch.manual_seed(0)
    networks: list[tuple[str, nn.Module, Callable[[Any, Tensor], Tensor], float]] = [
        ("CAM", CamClassifier(BACKBONE, len(VOC_CLASSES)), lambda network, x: network.maps_and_scores(x)[0], 1.7),
        ("edge", AffinityNet(BACKBONE), lambda network, x: network(x), 1.7),
        ("segmentation", DeepLabV3Plus(BACKBONE, len(VOC_CLASSES) + 1), lambda network, x: network(x), 1.15),
    ]
    for name, network, compute, target in networks:
        yield from _rows(name, network.eval(), compute, target)


def _rows(
    name: str, network: nn.Module, compute: Callable[[Any, Tensor], Tensor], target: float
) -> Iterator[Comparison]:
    place = torch.device("cpu")
    images = normalised_batch(photograph()[None], *normalisation(network.get_submodule("backbone")), place)
    if name != "CAM":
        images = F.pad(images, (0, -images.shape[3] % OUTPUT_STRIDE, 0, -images.shape[2] % OUTPUT_STRIDE))
    batch = with_mirrors(images, True)
    others = [with_engine(copy.deepcopy(network), place, engine) for engine in ENGINES]
    calls = [lambda one=one: _computed(compute, one, batch) for one in (network, *others)]  # type: ignore[misc]
    plain, *fast = timed_in_turn(calls, REPEAT, clock=time.process_time)
    for engine, one, call in zip(ENGINES, fast, calls[1:], strict=True):
        difference = float((one.result - plain.result).abs().max() / plain.result.abs().max())
        wanted = target if engine == "onnxruntime" else 1.0
        yield Comparison(
            f"{name}, {BACKBONE}, one image and its mirror image, {engine}",
            "torch",
            plain.seconds,
            one.seconds,
            peak_megabytes(call),
            f"within {difference:.0e} of the maximum",
            f">= {wanted} x",
            difference <= AGREEMENT and plain.seconds >= wanted * one.seconds,
        )


def _computed(compute: Callable[[Any, Tensor], Tensor], network: nn.Module, batch: Tensor) -> Tensor:
    with torch.inference_mode():
        return compute(network, batch)
