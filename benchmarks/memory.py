"""Peak memory of the workers of each pass on one photograph, in fresh processes, against the estimate for Ray.

    python benchmarks/memory.py [--size 500x375 1024x768 4000x3000] [--classes 2] [--backbone efficientnet_lite0]
        [--operators fused] [--set section.field=value ...]

The photograph is scikit-image's coffee, enlarged and with noise; networks have random weights, because memory does not
depend on them. Counted is what belongs to the process alone: the largest resident set without mapped files, which the
workers of a node share. Runs on Linux.
"""

import argparse
import io
import json
import tempfile
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import skimage.data
import torch
from PIL import Image

from pfit_ray import storage
from pfit_ray.cluster.memory_estimate import MEBIBYTE, worker_memory
from pfit_ray.config import PASSES, Pass, RunConfig
from pfit_ray.config.load import load_config
from pfit_ray.constants import OK, VOC_CLASSES, Row, strided_size
from pfit_ray.data.images import encode_grey
from pfit_ray.nets.affinitynet import AffinityNet
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.nets.weights import save_network
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.tasks.base import run_stages
from pfit_ray.tasks.encode import compressed_array
from pfit_ray.tasks.network_stage import limited_size
from pfit_ray.tasks.passes import plan_pass

OPERATORS = ("network", "finish", "fused")
"""A fused worker takes the photograph through the network and the rest."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", default=["500x375", "1024x768", "4000x3000"], help="WIDTHxHEIGHT")
    parser.add_argument("--passes", nargs="+", default=PASSES, choices=PASSES)
    parser.add_argument("--operators", nargs="+", default=OPERATORS, choices=OPERATORS)
    parser.add_argument("--classes", type=int, default=2, help="classes on the photograph")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--set", nargs="*", default=[], metavar="section.field=value", help="config fields")
    arguments = parser.parse_args()
    for size in arguments.size:
        width, height = map(int, size.split("x"))
        for name in arguments.passes:
            for operator in arguments.operators:
                given = (name, operator, width, height, arguments.classes, arguments.backbone, arguments.set)
                with get_context("spawn").Pool(1) as pool:
                    peaks, estimate = pool.apply(measure, given)
                worst = max(peaks, key=lambda stage: peaks[stage])
                print(
                    f"{size:>9}  {name:<7}  {operator:<7}  {peaks[worst]:6.0f} MiB in {worst:<18}  "
                    f"estimate {estimate:6.0f} MiB",
                    flush=True,
                )


def measure(
    name: Pass, operator: str, width: int, height: int, classes: int, backbone: str, options: Sequence[str]
) -> tuple[dict[str, float], float]:
    """Take one photograph through an operator of a pass.

    Returns:
        Peak of each stage and the estimate for a config whose largest image is this one, in MiB.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    data = {"source": "voc", "root": "voc"}
    document = {"output": "run", "data": data, "shard_size": 1, "images": {"max_pixels": width * height}}
    config = load_config("memory.yaml", options, lambda _: json.dumps(document).encode())
    keys = list(range(1, classes + 1))
    row: Row = {"image_id": "coffee", "uri": "", "status": OK, "keys": keys, "encoded": photograph(width, height)}
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(str(Path(folder) / "run"))
        save_random(run, name, backbone)
        plan = plan_pass(name, config, run)
        if operator == "finish":
            row |= after_network(name, config, width, height, classes)
        elif name == "labels":
            row |= seeds_of(config, width, height, classes)
        chains = {"network": [plan.network], "finish": [plan.finish], "fused": [plan.network, plan.finish]}[operator]
        peaks: dict[str, float] = {}
        for stage in (stage for chain in chains for stage in chain):
            if stage.name == "decode":  # a chain begins without the pixels of the one before
                row.pop("image", None)
            stage.setup()
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
            run_stages([stage], [row])
            if row["status"] != OK:
                raise RuntimeError(f"{row['stage']}: {row['message']}")
            status = own_status()
            peak = (status["VmHWM"] - status["RssFile"]) / 1024
            peaks[stage.name] = max(peak, peaks.get(stage.name, 0.0))
    memory = worker_memory(config, gpu=False, fused=operator == "fused")
    return peaks, (memory.cpu if operator == "finish" else memory.network) / MEBIBYTE


def own_status() -> dict[str, int]:
    """Numbers of /proc/self/status, memory in KiB."""
    pairs = (line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(value.split()[0]) for name, value in pairs if name.startswith(("Vm", "Rss"))}


def photograph(width: int, height: int) -> bytes:
    """A JPEG."""
    enlarged = Image.fromarray(skimage.data.coffee()).resize((width, height), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(0).integers(-6, 7, (height, width, 3), dtype=np.int16)
    buffer = io.BytesIO()
    Image.fromarray((np.asarray(enlarged) + noise).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def save_random(run: RunDirectory, name: Pass, backbone: str) -> None:
    """Put a pass's network with random weights into a run directory."""
    if name == "seeds":
        data = save_network(CamClassifier(backbone, len(VOC_CLASSES)), {})
        storage.write_bytes(run.weights("classifier"), data)
    elif name == "labels":
        storage.write_bytes(run.weights("affinitynet"), save_network(AffinityNet(backbone), {}))
    else:
        data = save_network(DeepLabV3Plus(backbone, len(VOC_CLASSES) + 1, group_norm=True), {})
        storage.write_bytes(run.weights("deeplab"), data)


def after_network(name: Pass, config: RunConfig, width: int, height: int, classes: int) -> Row:
    """What a network would have added to the row."""
    grid = blobs(*strided_size(height, width), classes)
    if name == "seeds":
        plain = {"key_scores": [0.5] * classes, "labels_predicted": False, "label_scores": None}
        return {"cam": grid, "cam_maps": [blobs(48, 64, classes)], **plain}
    if name == "labels":
        return {"edge": 1 - grid.max(axis=0), **seeds_of(config, width, height, classes)}
    size = limited_size(height, width, config.predict.max_side)
    logits = 8 * blobs(*size, len(VOC_CLASSES) + 1)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=0)
    labels = list(range(len(VOC_CLASSES) + 1))
    return {"probabilities": compressed_array(probabilities), "label_ids": labels}


def seeds_of(config: RunConfig, width: int, height: int, classes: int) -> Row:
    """What pass seeds would have found for the row."""
    regions = encode_grey((16 * blobs(height, width, 1)[0]).astype(np.uint8))
    seed_cam = blobs(*strided_size(height, width), classes)
    return {"seed_cam": seed_cam, **{f"regions_{source}": regions for source in config.pooled_regions}}


def blobs(height: int, width: int, count: int) -> np.ndarray:
    """Smooth maps, float32 (count, height, width) in [0, 1]."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    centres = np.random.default_rng(1).random((count, 2))
    return np.stack([np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 0.03) for cy, cx in centres]).astype(np.float32)


if __name__ == "__main__":
    main()
