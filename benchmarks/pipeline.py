"""The passes over photographs three ways: a plain loop, a pool of processes, and our pipeline on Ray.

    python benchmarks/pipeline.py [--images 24] [--passes seeds labels predict] [--root VOC2012]
        [--shard-size 2] [--device cpu|cuda] [--skip pool] [-- section.field=value ...]

Each way runs the same stages with the same config on the same images and publishes the same shards. The classifier is
the zero-shot one of configs/quickstart.yaml; AffinityNet and DeepLabv3+ have random weights, on which their speed does
not depend; but probabilities without sense compress badly, so that pass predict moves more than it would. One thread
per process. Runs on Linux; measure on an idle machine.

The bound of a pass is the sum of the loop's CPU seconds over the cores. The pipeline's cores times its wall seconds
are accounted for as

    stages       CPU seconds of the stages, which its shards tell
    packing      CPU seconds of packing and unpacking shards between operators, replayed on the loop's shards
    other CPU    the rest of the CPU seconds of all its processes: imports, weights, Ray's own
    idle         cores without work, mostly at the start and at the end

and its start-up is the time before the first finished shard beyond the seconds of that shard's stages.
"""

import argparse
import os
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

import skimage.data
import torch
from PIL import Image
from scale_run import descendants

from pfit_ray import storage
from pfit_ray.cluster.pipeline import run_pass, warm_up
from pfit_ray.cluster.placement import Placement, place
from pfit_ray.cluster.session import ray_session
from pfit_ray.config import PASSES, Pass, RunConfig
from pfit_ray.config.load import load_config
from pfit_ray.data.sources.item import Item
from pfit_ray.nets.affinitynet import AffinityNet
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.nets.weights import save_network
from pfit_ray.rundir.directory import IMAGE_SET, RunDirectory
from pfit_ray.rundir.manifest import write_manifest
from pfit_ray.tasks.base import Timings, add_timings
from pfit_ray.tasks.packing import pack_rows, unpack_rows
from pfit_ray.tasks.passes import plan_pass
from pfit_ray.train.provide import provide_network

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "quickstart.yaml"
BACKBONE = "efficientnet_lite0"
PHOTOGRAPHS = ("chelsea", "coffee", "astronaut", "rocket")
SIZE = (500, 375)
WALL_TARGET, CPU_TARGET = 1.15, 1.1
SAMPLE_SECONDS = 0.5


@dataclass
class Measured:
    """What one way took: wall seconds, CPU seconds of all its processes, and what its stages tell.

    `packing` are CPU seconds between operators, `moved` bytes between them: after fetch, and after the network where
    the rest has its own workers; `start_up` are wall seconds.
    """

    wall: float
    cpu: float
    stages: Timings
    packing: tuple[float, ...] = ()
    moved: tuple[int, ...] = ()
    start_up: float = 0.0
    gpu: float | None = None

    @property
    def stage_cpu(self) -> float:
        """CPU seconds of all stages."""
        return sum(timing["cpu_seconds"] for timing in self.stages.values())


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=24, help="photographs; 200 for a measurement that counts")
    parser.add_argument("--passes", nargs="+", default=list(PASSES), choices=PASSES)
    parser.add_argument("--root", help="a VOC2012 folder whose photographs to take instead of scikit-image's")
    parser.add_argument("--shard-size", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--skip", nargs="*", default=[], choices=("pool",))
    parser.add_argument("options", nargs="*", metavar="section.field=value", help="config fields")
    arguments = parser.parse_args()
    if "labels" in arguments.passes and "seeds" not in arguments.passes:
        parser.error("pass labels reads what pass seeds has found: name both")
    for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # for the processes that are started
    if arguments.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif not torch.cuda.is_available():
        parser.error("--device cuda: there is no GPU here")
    with TemporaryDirectory() as folder:
        measure(Path(folder), arguments)


def measure(folder: Path, arguments: argparse.Namespace) -> None:
    """Prepare images and networks, then take each pass all ways."""
    items = images(folder, arguments.images, arguments.root)
    options = [f"output={folder / 'run'}", f"shard_size={arguments.shard_size}", *arguments.options]
    config = load_config(str(CONFIG), options)
    runs = {way: RunDirectory(str(folder / way)) for way in ("loop", "pool", "ray")}
    for way in ("loop", "pool"):
        prepare(runs[way], config, items)
    cores = os.cpu_count() or 1
    print(f"{len(items)} photographs, {cores} cores, shards of {arguments.shard_size}, {arguments.device}")
    loops, pools = {}, {}
    for name in arguments.passes:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            loops[name] = alone.submit(loop, name, config, runs["loop"].root, shards_of(runs["loop"], name)).result()
        if "pool" not in arguments.skip:
            pools[name] = pool(name, config, runs["pool"], cores)
    began = time.perf_counter()
    with ray_session("local", config.resources, verbose=False, preload=warm_up) as cluster:
        print(f"start of Ray, once per run: {time.perf_counter() - began:.1f} s")
        prepare(runs["ray"], config, items)  # as a run does, while workers import
        print(f"with the list of images and the networks: {time.perf_counter() - began:.1f} s")
        placement = place(config, cluster)
        print(placement.describe())
        for name in arguments.passes:
            ours = pipeline(name, config, runs["ray"], placement, arguments.device)
            report(name, len(items), cores, loops[name], pools.get(name), ours, hops=1 if placement.fused else 2)


def images(folder: Path, count: int, root: str | None) -> list[Item]:
    """So many photographs, repeated where there are fewer, with two classes each."""
    if root is None:
        paths = []
        for number, name in enumerate(PHOTOGRAPHS):
            paths.append(folder / f"{number}.jpg")
            Image.fromarray(getattr(skimage.data, name)()).convert("RGB").resize(SIZE).save(paths[-1], quality=95)
    else:
        paths = sorted(Path(root, "JPEGImages").glob("*.jpg"))
    return [Item(f"image_{number:05d}", str(paths[number % len(paths)]), keys=(1, 2)) for number in range(count)]


def prepare(run: RunDirectory, config: RunConfig, items: Sequence[Item]) -> None:
    """Give a run directory its manifests and networks."""
    for image_set in set(IMAGE_SET.values()):
        write_manifest(run, image_set, iter(items), config.shard_size)
    torch.manual_seed(0)
    provide_network(config, run, "classifier")
    storage.write_bytes(run.weights("affinitynet"), save_network(AffinityNet(BACKBONE), {}))
    labels = len(config.data.class_list) + 1
    storage.write_bytes(run.weights("deeplab"), save_network(DeepLabV3Plus(BACKBONE, labels), {}))


def shards_of(run: RunDirectory, name: Pass) -> range:
    """The shards of a pass."""
    return range(run.read_json("manifest", f"{IMAGE_SET[name]}.json")["shards"])


def loop(name: Pass, config: RunConfig, root: str, shards: Sequence[int]) -> Measured:
    """Take shards through a pass in this process, one after the other; loading and packing are not counted."""
    run = RunDirectory(root)
    fetch, network, finish = plan_pass(name, config, run).operators(config, run)
    for operator in (network, finish.chain):
        operator.prepare()
    took, packing, moved = Clock(), (Clock(), Clock()), [0, 0]
    for shard in shards:
        with took:
            fetched = fetch({"shard": shard})
            passed = network(fetched)
            finish(passed)
        for hop, packed in enumerate((fetched, passed)):
            with packing[hop]:
                moved[hop] += len(packed["rows"])
                pack_rows(*unpack_rows(packed["rows"]))
    timings = told(run, name, shards)
    wall, cpu = (sum(getattr(clock, kind) for clock in packing) for kind in ("wall", "cpu"))
    packed_cpu = tuple(clock.cpu for clock in packing)
    return Measured(took.wall - wall, took.cpu - cpu, timings, packed_cpu, tuple(moved))


class Clock:
    """Adds up wall and CPU seconds of a part of a loop."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __enter__(self) -> None:
        self.began = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter() - self.began[0]
        self.cpu += time.process_time() - self.began[1]


def told(run: RunDirectory, name: Pass, shards: Sequence[int]) -> Timings:
    """What the stages took for some shards."""
    markers = run.finished_shards(name)
    if failed := sum(markers[shard]["failed"] for shard in shards):
        raise SystemExit(f"pass {name}: {failed} images failed, see the reasons of {markers}")
    timings: Timings = {}
    for shard in shards:
        timings = add_timings(timings, markers[shard]["stages"])
    return timings


def pool(name: Pass, config: RunConfig, run: RunDirectory, cores: int) -> Measured:
    """The loop in several processes, each with every so-many-th shard; their start counts."""
    shards = shards_of(run, name)
    wall, cpu = time.perf_counter(), children_cpu()
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as workers:
        waiting = [workers.submit(loop, name, config, run.root, shards[first::cores]) for first in range(cores)]
        for one in waiting:
            one.result()
    return Measured(time.perf_counter() - wall, children_cpu() - cpu, told(run, name, shards))


def children_cpu() -> float:
    """CPU seconds of the processes that this one has started and seen end."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def pipeline(name: Pass, config: RunConfig, run: RunDirectory, placement: Placement, device: str) -> Measured:
    """The pass on Ray."""
    shards = shards_of(run, name)
    began, wall = time.time(), time.perf_counter()
    with Watch(device == "cuda") as watch:
        for _ in run_pass(plan_pass(name, config, run), config, run, shards, placement):
            pass
    wall = time.perf_counter() - wall
    first = min(run.finished_shards(name).values(), key=lambda marker: marker["finished"])
    stages = sum(timing["seconds"] for timing in first["stages"].values())
    start_up = first["finished"] - began - stages
    return Measured(wall, watch.cpu, told(run, name, shards), start_up=start_up, gpu=watch.gpu)


class Watch(Thread):
    """CPU seconds of this process and all that it has started, also of those that end meanwhile, and GPU use."""

    def __init__(self, gpu: bool) -> None:
        super().__init__(daemon=True)
        self.before = self._now()
        self.latest = dict(self.before)
        self.stopped = Event()
        self.shares: list[float] | None = [] if gpu else None

    def __enter__(self) -> "Watch":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.join()
        self.latest |= self._now()

    def run(self) -> None:
        """Look again and again: who ends between two looks loses what it used since the last one."""
        while not self.stopped.wait(SAMPLE_SECONDS):
            self.latest |= self._now()
            if self.shares is not None:
                self.shares.append(torch.cuda.utilization())

    @property
    def cpu(self) -> float:
        """CPU seconds since the start."""
        return sum(seconds - self.before.get(pid, 0.0) for pid, seconds in self.latest.items())

    @property
    def gpu(self) -> float | None:
        """Mean utilisation of the GPU in per cent."""
        return sum(self.shares) / len(self.shares) if self.shares else None

    def _now(self) -> dict[int, float]:
        found = {}
        for pid in [os.getpid(), *descendants(os.getpid())]:
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            found[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return found


def report(
    name: Pass, count: int, cores: int, bare: Measured, pooled: Measured | None, ours: Measured, hops: int
) -> None:
    """Print one pass, in which a shard is packed so many times."""
    packing = sum(bare.packing[:hops])
    bound = bare.cpu / cores
    print(f"\npass {name}: bound {bound:.1f} s")
    print(f"{'':12} {'wall s':>8} {'of bound':>9} {'CPU s/image':>12} {'of the loop':>12}")
    for way, one in (("loop", bare), ("pool", pooled), ("Ray", ours)):
        if one is not None:
            ratios = one.wall / bound, one.cpu / count, one.cpu / bare.cpu
            print(f"{way:<12} {one.wall:>8.1f} {ratios[0]:>9.2f} {ratios[1]:>12.3f} {ratios[2]:>12.2f}")
    flowing = (ours.wall - ours.start_up) / bound
    per_stage = ours.stage_cpu / bare.stage_cpu
    print(f"start-up {ours.start_up:.1f} s; without it {flowing:.2f} of the bound (target <= {WALL_TARGET})")
    print(f"CPU seconds of the stages: {per_stage:.2f} of the loop's (target <= {CPU_TARGET})")
    total = cores * ours.wall
    parts = {
        "stages": ours.stage_cpu,
        "packing": packing,
        "other CPU": ours.cpu - ours.stage_cpu - packing,
        "idle": total - ours.cpu,
    }
    print("core seconds: " + ", ".join(f"{part} {s:.1f} ({100 * s / total:.0f} %)" for part, s in parts.items()))
    traffic = {
        "read": ours.stages["fetch"]["bytes"],
        "written": ours.stages["write"]["bytes"],
        "moved": sum(bare.moved[:hops]),
    }
    print("kB/image: " + ", ".join(f"{what} {size / count / 1e3:.0f}" for what, size in traffic.items()))
    if ours.gpu is not None:
        print(f"GPU utilisation: {ours.gpu:.0f} %")
    for stage, timing in sorted(ours.stages.items(), key=lambda item: -item[1]["cpu_seconds"]):
        loop_cpu, our_cpu = bare.stages[stage]["cpu_seconds"] / count, timing["cpu_seconds"] / count
        print(
            f"  {stage:<20} loop {loop_cpu:7.3f}, Ray {our_cpu:7.3f} CPU s/image, {timing['seconds'] / count:7.3f} wall"
        )


if __name__ == "__main__":
    main()
