"""The tables of docs/scaling.md: images per hour, cost and what binds, from CPU seconds and assumptions on GPUs.

    python benchmarks/scaling.py [--costs benchmarks/scaling_costs.json] [--set seeds.regions_slic=1.0 ...]
        [--teraflops 20] [--gpus 1 8 64] [--cpus-per-gpu 16] [--gpu-price 2.0] [--cpu-price 0.04]

Measured are the CPU seconds per 500 x 375 photograph of each stage (the file says them; `python
benchmarks/pipeline.py` and `python benchmarks/chains.py` measure them) and the bytes. Counted are the floating point
operations of the networks, on tensors without content. Assumed are what a GPU does in a second and the prices.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pfit_ray.config import PASSES, Pass
from pfit_ray.config.stages import CamConfig, PredictConfig
from pfit_ray.constants import VOC_CLASSES
from pfit_ray.nets.affinitynet import AffinityNet
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.ops.cam.cam import scaled_size
from pfit_ray.tasks.base import OUTPUT_STRIDE

COSTS = Path(__file__).with_name("scaling_costs.json")
HEIGHT, WIDTH = 375, 500
HOST_SECONDS: dict[Pass, float] = {"seeds": 0.03, "labels": 0.012, "predict": 0.03}
"""CPU seconds per image beside a GPU: decoding, resizing, packing. They are taken from the network's own CPU."""
READ: dict[Pass, float] = {"seeds": 0.11, "labels": 0.19, "predict": 0.11}
WRITTEN: dict[Pass, float] = {"seeds": 0.13, "labels": 0.06, "predict": 0.01}
MOVED: dict[Pass, float] = {"seeds": 0.6, "labels": 0.4, "predict": 1.0}
"""Megabytes per image: read from storage, written to it, and moved through the object store."""
MANY = 100_000_000
HOUR = 3600


@dataclass(frozen=True)
class Cost:
    """What one image takes in one pass: CPU seconds of the tasks, GPU seconds."""

    cpu: float
    gpu: float


def main() -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--costs", default=str(COSTS), help="CPU seconds per image: a JSON of pass, stage, seconds")
    parser.add_argument("--set", nargs="*", default=[], metavar="PASS.STAGE=SECONDS", help="other CPU seconds")
    parser.add_argument("--teraflops", type=float, default=20.0, help="assumed: what a GPU reaches on these networks")
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--cpus-per-gpu", type=int, nargs="+", default=[16])
    parser.add_argument("--gpu-price", type=float, default=2.0, help="assumed: USD per GPU and hour")
    parser.add_argument("--cpu-price", type=float, default=0.04, help="assumed: USD per CPU and hour")
    parser.add_argument("--backbone", default="resnest101")
    arguments = parser.parse_args()
    seconds = json.loads(Path(arguments.costs).read_text())
    for change in arguments.set:
        where, _, value = change.partition("=")
        name, _, stage = where.partition(".")
        if stage not in seconds.get(name, {}):
            parser.error(f"--set {change}: there is no stage {where}")
        seconds[name][stage] = float(value)
    work = {name: operations(name, arguments.backbone) for name in PASSES}
    costs = {name: Cost(sum(seconds[name].values()), work[name] / arguments.teraflops) for name in PASSES}
    print("\n".join(stage_table(seconds)), end="\n\n")
    print("\n".join(pass_table(costs, work, arguments.gpu_price, arguments.cpu_price)), end="\n\n")
    print("\n".join(cluster_table(costs, arguments)))


def operations(name: Pass, backbone: str) -> float:
    """Teraflops that a pass's network takes for one photograph, all scales and the mirror image."""
    networks = {
        "seeds": (lambda: CamClassifier(backbone, len(VOC_CLASSES)), CamConfig().scales),
        "labels": (lambda: AffinityNet(backbone), (1.0,)),
        "predict": (lambda: DeepLabV3Plus(backbone, len(VOC_CLASSES) + 1), PredictConfig().scales),
    }
    make, scales = networks[name]
    with torch.device("meta"):
        network: nn.Module = make().eval()
        total = 0
        for scale in scales:
            sides = [side + -side % OUTPUT_STRIDE for side in scaled_size(HEIGHT, WIDTH, scale)]
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                network(torch.empty(2, 3, *sides))
            total += counter.get_total_flops()
    return total / 1e12


def stage_table(seconds: dict[Pass, dict[str, float]]) -> Sequence[str]:
    """CPU seconds of each stage."""
    lines = ["| pass | stage | CPU s/image | share of the pass |", "|---|---|---|---|"]
    for name in PASSES:
        whole = sum(seconds[name].values())
        for stage, value in sorted(seconds[name].items(), key=lambda item: -item[1]):
            if value >= 0.01 * whole:
                lines.append(f"| {name} | {stage} | {value:.3g} | {value / whole:.0%} |")
    return lines


def pass_table(costs: dict[Pass, Cost], work: dict[Pass, float], gpu_price: float, cpu_price: float) -> Sequence[str]:
    """What an image takes in each pass, the ratio of CPUs to GPUs that keeps both busy, and what a million cost."""
    lines = [
        "| pass | CPU s/image | TFLOP/image | GPU s/image | images/h of a CPU | of a GPU | CPUs per GPU "
        "| USD per million: CPU | GPU |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, cost in costs.items():
        million = [1e6 / HOUR * used * price for used, price in ((cost.cpu, cpu_price), (cost.gpu, gpu_price))]
        lines.append(
            f"| {name} | {cost.cpu:.2f} | {work[name]:.2f} | {cost.gpu:.3f} | {HOUR / cost.cpu:,.0f} "
            f"| {HOUR / cost.gpu:,.0f} | {ratio(name, cost):.0f} | {million[0]:,.0f} | {million[1]:,.0f} |"
        )
    return lines


def ratio(name: Pass, cost: Cost) -> float:
    """CPUs for each GPU, with the one that feeds it, at which neither waits for the other."""
    return cost.cpu / max(cost.gpu, HOST_SECONDS[name]) + 1


def cluster_table(costs: dict[Pass, Cost], arguments: argparse.Namespace) -> Sequence[str]:
    """Each pass on clusters: images per hour, what binds, traffic, and days for 100 million images."""
    lines = [
        "| GPUs | CPUs | pass | images/h | binds | CPUs or GPUs without work | storage MB/s | object store MB/s "
        "| days for 100 million |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for gpus in arguments.gpus:
        for per_gpu in arguments.cpus_per_gpu:
            days = 0.0
            for name, cost in costs.items():
                cpus = gpus * per_gpu
                by_gpu = gpus / max(cost.gpu, HOST_SECONDS[name])
                by_cpu = (cpus - gpus) / cost.cpu
                rate = min(by_gpu, by_cpu)
                idle = (
                    f"{1 - rate / by_gpu:.0%} of the GPUs"
                    if by_cpu < by_gpu
                    else f"{1 - rate / by_cpu:.0%} of the CPUs"
                )
                days += MANY / rate / 24 / HOUR
                lines.append(
                    f"| {gpus} | {cpus} | {name} | {rate * HOUR:,.0f} | {'CPU' if by_cpu < by_gpu else 'GPU'} | {idle} "
                    f"| {rate * (READ[name] + WRITTEN[name]):,.1f} | {rate * MOVED[name]:,.1f} "
                    f"| {MANY / rate / 24 / HOUR:,.1f} |"
                )
            lines.append(f"| {gpus} | {cpus} | all | | | | | | {days:,.1f} |")
    return lines


if __name__ == "__main__":
    main()
