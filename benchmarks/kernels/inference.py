"""The three networks over photographs: our stages against the bare forward passes of the same batches.

The bare loop is given tensors that are ready and throws its results away: what ours takes longer are resizing,
normalising, mirroring, merging and copying. Networks have random weights, on which their speed does not depend; with
a larger backbone the share of the rest is smaller. Seconds on a CPU are CPU seconds.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from comparison import Comparison, peak_megabytes, photograph
from torch import Tensor, nn

from pfit_ray.config.data import PredictedLabelsConfig
from pfit_ray.config.stages import CamConfig, PredictConfig, WalkConfig
from pfit_ray.constants import VOC_CLASSES
from pfit_ray.nets.affinitynet import AffinityNet
from pfit_ray.nets.backbones import normalisation
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.ops.cam.cam import resize_image, scaled_size
from pfit_ray.tasks.base import OUTPUT_STRIDE
from pfit_ray.tasks.cam import CamStage
from pfit_ray.tasks.edge import EdgeStage
from pfit_ray.tasks.network_stage import NetworkStage, with_mirrors
from pfit_ray.tasks.predict import PredictStage

BACKBONE = "efficientnet_lite0"
PHOTOGRAPHS = ("coffee", "chelsea")
THREADS = 2
SHARE = 0.9
REPEAT = 2


def compare(device: str) -> Iterator[Comparison]:
    """Yield a row for each network."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    place = torch.device(device)
    images = np.stack([photograph(name) for name in PHOTOGRAPHS])
    cam, predict = CamConfig(), PredictConfig()

    classifier = CamClassifier(BACKBONE, len(VOC_CLASSES))
    cams = CamStage("", cam, PredictedLabelsConfig(), VOC_CLASSES)
    batches = [with_mirrors(at_scale(images, scale, classifier), True) for scale in cam.scales]
    yield _row("CAM", cams, classifier, classifier.maps_and_scores, images, batches, place)

    affinitynet = AffinityNet(BACKBONE)
    edges = EdgeStage("", WalkConfig(), reference=False)
    batches = [with_mirrors(_padded(at_scale(images, 1.0, affinitynet)), True)]
    yield _row("edge", edges, affinitynet, affinitynet, images, batches, place)

    deeplab = DeepLabV3Plus(BACKBONE, len(VOC_CLASSES) + 1)
    segmentation = PredictStage("", predict, reference=False)
    batches = [_padded(with_mirrors(at_scale(images, scale, deeplab), True)) for scale in predict.scales]
    yield _row("segmentation", segmentation, deeplab, deeplab, images, batches, place)


def at_scale(images: np.ndarray, scale: float, network: nn.Module) -> Tensor:
    """What a network sees of images at a scale, by the textbook's formula."""
    size = scaled_size(images.shape[1], images.shape[2], scale)
    scaled = np.stack([resize_image(image, size) for image in images])
    mean, std = normalisation(network.get_submodule("backbone"))
    return torch.from_numpy(((scaled / 255.0 - mean) / std).astype(np.float32).transpose(0, 3, 1, 2).copy())


def _padded(batch: Tensor) -> Tensor:
    return F.pad(batch, (0, -batch.shape[3] % OUTPUT_STRIDE, 0, -batch.shape[2] % OUTPUT_STRIDE))


def _row(
    name: str,
    stage: NetworkStage,
    network: nn.Module,
    forward: Callable[[Tensor], object],
    images: np.ndarray,
    batches: Sequence[Tensor],
    device: torch.device,
) -> Comparison:
    network.eval().to(device)
    mean, std = normalisation(network.get_submodule("backbone"))
    vars(stage).update(network=network, device=device, mean=mean, std=std)
    batches = [batch.to(device) for batch in batches]

    def bare() -> None:
        with torch.inference_mode():
            for batch in batches:
                forward(batch)
        _wait(device)

    def ours() -> None:
        stage.forward(images)
        _wait(device)

    seen: list[Tensor] = []
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    hook = first.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    peak = peak_megabytes(ours) if device.type == "cpu" else ours()
    hook.remove()
    same = len(seen) == len(batches) and all(map(torch.equal, seen, batches))
    seen.clear()
    taken = [(_seconds(bare, device), _seconds(ours, device)) for _ in range(REPEAT)]
    loop, whole = (statistics.median(values) for values in zip(*taken, strict=True))
    return Comparison(
        f"{name}, {BACKBONE}, {len(images)} images, {len(batches)} scale(s), mirrored",
        "bare forward passes",
        loop,
        whole,
        peak,
        "same inputs" if same else "other inputs",
        f">= {SHARE} of its speed",
        same and loop >= SHARE * whole,
    )


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call: CPU seconds of the process on a CPU, which other processes disturb less than the wall's."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    start = clock()
    call()
    return clock() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
