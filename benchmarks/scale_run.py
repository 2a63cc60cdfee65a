"""Time per image and memory of whole runs over more and more images: both are to stay flat."""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.nets.weights import save_network
from pfit_ray.rundir.directory import RunDirectory

BACKBONE = "efficientnet_lite0"
CONFIG = Path(__file__).resolve().parents[1] / "configs" / "quickstart.yaml"
SAMPLE_SECONDS = 1.0


def measure_runs(arguments: argparse.Namespace) -> None:
    """Print what pass 3 takes over so many small images, for each number given."""
    print(
        f"{'images':>8} {'ms/image':>9} {'CPU ms/image':>13} {'ratio':>6} {'start-up s':>11} {'driver MB':>10} "
        f"{'largest worker MB':>18}"
    )
    for count in arguments.images:
        with tempfile.TemporaryDirectory() as place:
            cost = run_over(Path(place), count, arguments.shard_size, arguments.side)
        print(
            f"{count:>8} {cost.seconds * 1e3:>9.1f} {cost.cpu_seconds * 1e3:>13.1f} "
            f"{cost.seconds / cost.cpu_seconds:>6.2f} {cost.start_up:>11.1f} {cost.driver:>10.0f} {cost.worker:>18.0f}",
            flush=True,
        )


class Cost(NamedTuple):
    """What a run took: seconds per image once results flow, seconds until the first shard, and peak PSS in MB.

    CPU seconds per image are those of the stages. On a machine whose speed varies, such as a shared one, the ratio of
    the seconds to them tells more than the seconds: what the run takes beyond its stages, which is to stay flat.
    """

    seconds: float
    cpu_seconds: float
    start_up: float
    driver: float
    worker: float


def run_over(place: Path, count: int, shard_size: int, side: int) -> Cost:
    """Take so many images through pass 3."""
    write_images(place / "photos", count, side)
    torch.manual_seed(0)
    (place / "deeplab.safetensors").write_bytes(save_network(DeepLabV3Plus(BACKBONE, 4), {}))
    words = [
        f"output={place / 'run'}", "passes=[predict]", "data.source=folder", f"data.root={place / 'photos'}",
        "deeplab.source=weights", f"deeplab.weights={place / 'deeplab.safetensors'}", f"shard_size={shard_size}",
        "predict.scales=[1]", "predict.crf.iterations=1", "sheets=0",
    ]  # fmt: skip
    begun = time.time()
    command = [sys.executable, "-c", "from pfit_ray.cli.app import main; main()", "run", str(CONFIG), *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    driver = worker = 0.0
    while process.poll() is None:
        driver = max(driver, pss(process.pid))
        worker = max([worker, *(pss(child) for child in descendants(process.pid) if is_worker(child))])
        time.sleep(SAMPLE_SECONDS)
    if process.returncode:
        raise SystemExit(f"the run over {count} images ended with exit code {process.returncode}")
    markers = RunDirectory(str(place / "run")).finished_shards("predict").values()
    finished = sorted((marker["finished"], marker["ok"]) for marker in markers)
    if sum(ok for _, ok in finished) != count:
        raise SystemExit("images failed")
    first, last = finished[0][0], finished[-1][0]
    flowing = sum(ok for _, ok in finished[1:])
    cpu = sum(stage["cpu_seconds"] for marker in markers for stage in marker["stages"].values())
    return Cost((last - first) / max(flowing, 1), cpu / count, first - begun, driver, worker)


def write_images(folder: Path, count: int, side: int) -> None:
    """Small JPEGs of noise over a gradient, each different."""
    folder.mkdir(parents=True)
    ramp = np.linspace(0, 200, side, dtype=np.float32)[None, :, None]
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 55, (side, side, 3))
        Image.fromarray((ramp + noise).astype(np.uint8)).save(folder / f"image_{number:06d}.jpg", quality=90)


def pss(pid: int) -> float:
    """Proportional set size of a process in MB; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith("Pss:")), 0.0)


def is_worker(pid: int) -> bool:
    """Whether a process is one of Ray's workers."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::")
    except OSError:
        return False


def descendants(pid: int) -> Iterator[int]:
    """All processes that a process has started, at any remove."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return
    for task in tasks:
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in map(int, children):
            yield child
            yield from descendants(child)
