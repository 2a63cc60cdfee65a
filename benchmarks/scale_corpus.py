"""A whole run over very many images whose stages are fakes: what the driver, the storage and the resuming cost."""

import argparse
import io
import json
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from slow_bucket import counts

from pfit_ray import storage
from pfit_ray.cluster import pipeline
from pfit_ray.config import RunConfig
from pfit_ray.config.load import validate
from pfit_ray.constants import Row
from pfit_ray.data.images import encode_grey, encode_label
from pfit_ray.rundir.directory import IMAGE_SET, RunDirectory
from pfit_ray.runner import fingerprint
from pfit_ray.runner import run as runner
from pfit_ray.runner.progress import Progress
from pfit_ray.tasks.base import Stage
from pfit_ray.tasks.encode import array_bytes
from pfit_ray.tasks.passes import PassPlan, plan_pass

CLASSES = ("cat", "dog", "bird", "cow")
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true", "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
}  # fmt: skip
HUNDRED_MILLION = 100_000_000


@dataclass
class Fake(Stage):
    """Gives each image what its pass stores, of the right types and shapes for its size; computes nothing."""

    pass_name: str
    side: int
    name = "fake"

    def process(self, row: Row) -> None:
        """Add the columns."""
        columns, labels = _outputs(self.pass_name, self.side)
        number = int(row["image_id"].rpartition("_")[2])
        kept = {name: row[name] for name in ("image_id", "uri", "status")}
        row.clear()
        row.update(kept, height=self.side, width=self.side, **columns)
        key = 1 + number * 7919 % len(CLASSES)
        row.update(keys=[key], foreground_share=0.5, label_ids=[0, key], label_pixels=[self.side**2 // 2] * 2)
        score = (number * 2654435761 % 1_000_003) / 1_000_003
        row.update(mask_agreement=score, cam_margin=0.5, walk_margin=score, margin=score, crf_change=0.1)
        row["label"] = labels[key]


@cache
def _outputs(pass_name: str, side: int) -> tuple[dict[str, Any], list[bytes]]:
    """The stored arrays of an image, and label maps by class id."""
    rng = np.random.default_rng(0)
    stride = -(-side // 4)
    strided = array_bytes(rng.random((1, stride, stride)).astype(np.float16))
    regions = encode_grey(np.repeat(np.repeat(rng.integers(0, 8, (stride, stride)), 4, 0), 4, 1).astype(np.uint8))
    labels = []
    for key in range(len(CLASSES) + 1):
        label = np.zeros((side, side), np.uint8)
        label[: side // 2] = key
        labels.append(encode_label(label))
    names = {
        "seeds": ("cam", "combined_cam"),
        "labels": ("edge", "walk"),
        "predict": (),
    }[pass_name]
    columns: dict[str, Any] = dict.fromkeys(names, strided)
    if pass_name == "seeds":
        columns |= {f"{kind}_{name}": regions for kind in ("regions", "fit_mask") for name in ("slic", "quickshift")}
        columns |= {"key_scores": [1.0], "labels_predicted": False, "label_scores": None}
    return columns, labels


def fake_plan(name: Any, config: RunConfig, run: RunDirectory) -> PassPlan:
    """A pass that fetches and publishes as the real one does, with `Fake` in the place of its stages."""
    upstream = plan_pass(name, config, run).upstream
    return PassPlan(name, network=[], finish=[Fake(name, config.images.max_pixels)], upstream=upstream)


def write_source(place: Path, count: int, side: int) -> None:
    """A table of so many images, all of which are one file, and empty weight files."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)).save(buffer, "JPEG")
    (place / "image.jpg").write_bytes(buffer.getvalue())
    schema = pa.schema([("image", pa.string()), ("image_id", pa.string()), ("classes", pa.string())])
    with pq.ParquetWriter(place / "images.parquet", schema) as writer:
        for start in range(0, count, 100_000):
            numbers = range(start, min(start + 100_000, count))
            ids = [f"image_{number:09d}" for number in numbers]
            names = [CLASSES[number * 7919 % len(CLASSES)] for number in numbers]
            writer.write_table(pa.table({"image": ["image.jpg"] * len(ids), "image_id": ids, "classes": names}))


def settings(arguments: argparse.Namespace, place: Path, output: str) -> RunConfig:
    """The run's config; `images.max_pixels` hands the side of the images to the fakes."""
    document: dict[str, Any] = {
        "output": output,
        "passes": arguments.passes,
        "data": {"source": "table", "table": str(place / "images.parquet"), "root": str(place), "classes": CLASSES},
        "images": {"max_pixels": arguments.side},
        "combine": {"mode": "fit"},
        "resources": {"object_store_mb": 400},
    }
    if arguments.shard_size:
        document["shard_size"] = arguments.shard_size
    if arguments.port:
        document["storage"] = {"endpoint_url": f"http://127.0.0.1:{arguments.port}"}
    return validate(document)


class _Watch:
    """Notes times and requests of a run's moments, and may kill the driver at some share of the last pass."""

    def __init__(self, port: int | None, kill_at: float | None) -> None:
        self.port = port
        self.kill_at = kill_at
        self.told: dict[str, Any] = {"passes": {}}

    def now(self) -> dict[str, Any]:
        """The moment."""
        return {"at": time.time(), "requests": dict(counts(self.port)) if self.port else {}}

    def run_pass(self, plan: PassPlan, config: Any, run: Any, shards: Sequence[int], *rest: Any) -> Iterator[Any]:
        """In the place of `pipeline.run_pass`."""
        told = self.told["passes"].setdefault(plan.name, {"shards": len(shards), "begun": self.now()})
        for number, summary in enumerate(_real_run_pass(plan, config, run, shards, *rest)):
            if number == 0:
                told["first"] = self.now()
            yield summary
            if self.kill_at is not None and number + 1 >= self.kill_at * len(shards):
                os.kill(os.getpid(), signal.SIGKILL)
        told["last"] = self.now()


_real_run_pass = pipeline.run_pass


def drive(given: argparse.Namespace) -> None:
    """Be the driver of one run; prints what it noticed as JSON."""
    place, output = Path(given.place), given.output
    config = settings(given, place, output)
    storage.configure(config.storage)
    watch = _Watch(given.port, given.kill_at)
    run = RunDirectory(storage.absolute(output))
    for network in ("classifier", "affinitynet", "deeplab"):
        if not storage.exists(run.weights(network)):
            storage.write_bytes(run.weights(network), b"")
    runner.plan_pass = fake_plan
    pipeline.run_pass = watch.run_pass
    pipeline.warm_up = _no_warm_up
    watch.told["begun"] = watch.now()
    outcome = runner.Runner(config, Progress()).run()
    watch.told["ended"] = watch.now()
    watch.told["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    watch.told["counts"] = outcome.counts
    watch.told["shard_size"] = run.read_json("manifest", f"{IMAGE_SET['seeds']}.json")["shard_size"]
    Path(given.result).write_text(json.dumps(watch.told))


def _no_warm_up(worker: int, workers: int) -> None:
    """Fakes need nothing."""


def fill(given: argparse.Namespace) -> None:
    """Publish all but the last shards of each pass as workers do, without Ray, and without time for anything else."""
    place = Path(given.place)
    config = settings(given, place, given.output)
    storage.configure(config.storage)
    watch = runner.Runner(config, Progress())
    run = watch.run_directory
    for network in ("classifier", "affinitynet", "deeplab"):
        storage.write_bytes(run.weights(network), b"")
    watch._prepare([step for step in watch.planner.steps() if step.kind == "manifest"])
    summary = run.read_json("manifest", "train.json") or run.read_json("manifest", "predict.json")
    count = int(summary["shards"] * given.done)
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for name in config.passes:
            fingerprint.begin_step(run, config, name)
            parts = [range(start, min(start + 256, count)) for start in range(0, count, 256)]
            list(pool.map(partial(_publish, given, name), parts))
            watch.ledger.compact(name)  # as the driver of a run does on the way


def _publish(given: argparse.Namespace, name: str, shards: Sequence[int]) -> None:
    os.fsync = lambda descriptor: None  # type: ignore[assignment]
    config = settings(given, Path(given.place), given.output)
    storage.configure(config.storage)
    plan = fake_plan(name, config, RunDirectory(storage.absolute(given.output)))
    fetch, _, finish = plan.operators(config, RunDirectory(storage.absolute(given.output)))
    for shard in shards:
        finish(fetch({"shard": shard}))


def measure_corpus(arguments: argparse.Namespace) -> None:
    """Print what the run takes, on this machine's disk or in a bucket on loopback."""
    for place_name in arguments.places:
        with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
            place = Path(folder)
            write_source(place, arguments.images, arguments.side)
            if place_name == "disk":
                _measure(arguments, place, str(place / "run"), None)
            else:
                with _Bucket(arguments.latency) as port:
                    _measure(arguments, place, "s3://bucket/run", port)


class _Bucket:
    """A slow bucket in a process of its own; gives its port."""

    def __init__(self, latency: float) -> None:
        self.latency = latency

    def __enter__(self) -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        script = str(Path(__file__).with_name("slow_bucket.py"))
        self.process = subprocess.Popen([sys.executable, script, "--port", str(port), "--latency", str(self.latency)])
        for _ in range(100):
            try:
                counts(port)
                break
            except OSError:
                time.sleep(0.1)
        return port

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()


def _measure(arguments: argparse.Namespace, place: Path, output: str, port: int | None) -> None:
    where = f"a bucket with {arguments.latency * 1e3:.0f} ms of latency" if port else "this machine's disk"
    print(f"\n{arguments.images} images, passes {', '.join(arguments.passes)}, on {where}", flush=True)
    if arguments.done:
        begun = time.time()
        _child("fill", arguments, place, output, port)
        print(f"  {arguments.done:.0%} of the shards published beforehand in {time.time() - begun:.0f} s", flush=True)
    for share in arguments.kill_at:
        code = _child("drive", arguments, place, output, port, kill_at=share)
        print(f"  the driver was killed when {share:.0%} of the rest of a pass was done: exit code {code}", flush=True)
    _child("drive", arguments, place, output, port)
    told = json.loads((place / "told.json").read_text())
    _print(arguments, told, port)
    if not port:
        _check(arguments, Path(output))


def _child(
    what: str, arguments: argparse.Namespace, place: Path, output: str, port: int | None, kill_at: float | None = None
) -> int:
    given = {**vars(arguments), "place": str(place), "output": output, "port": port, "kill_at": kill_at}
    given["result"] = str(place / "told.json")
    given.pop("command", None)
    (place / "given.json").write_text(json.dumps(given))
    here = str(Path(__file__).parent)  # workers import the fakes
    paths = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, **CREDENTIALS, "PYTHONPATH": paths}
    log = place / "log.txt"
    with log.open("a") as file:
        done = subprocess.run(
            [sys.executable, "-c", f"from scale_corpus import child; child({what!r}, {str(place / 'given.json')!r})"],
            env=environment,
            stdout=file,
            stderr=file,
        )
    if done.returncode and kill_at is None:
        raise SystemExit(f"{what} ended with exit code {done.returncode}:\n{log.read_text()[-3000:]}")
    return done.returncode


def _print(arguments: argparse.Namespace, told: dict[str, Any], port: int | None) -> None:
    images, passes = arguments.images, told["passes"]
    before = told["begun"]
    print(f"  driver's peak {told['peak_bytes'] / 1e6:.0f} MB, shards of {told['shard_size']} images")
    for name, one in passes.items():
        first, last = one["first"], one["last"]
        print(
            f"  pass {name}: {one['shards']} shards; {one['begun']['at'] - before['at']:.1f} s before it, "
            f"{first['at'] - one['begun']['at']:.1f} s to the first shard, {last['at'] - first['at']:.1f} s to the last"
        )
        if port:
            flow = Counter(last["requests"])
            flow.subtract(one["begun"]["requests"])
            flow.pop("objects")
            told_flow = ", ".join(f"{kind} {count / one['shards']:.2f}" for kind, count in flow.most_common())
            print(f"    requests per shard: {flow.total() / one['shards']:.2f} ({told_flow})")
        before = last
    end = told["ended"]
    whole = end["at"] - told["begun"]["at"]
    print(f"  after the last shard: {end['at'] - before['at']:.1f} s; the whole run {whole:.1f} s")
    if port:
        rest = Counter(end["requests"])
        rest.subtract(before["requests"])
        objects = end["requests"]["objects"]
        rest.pop("objects")
        print(f"    requests: {rest.total()} ({', '.join(f'{kind} {count}' for kind, count in rest.most_common())})")
        print(f"  objects: {objects}, {objects * told['shard_size'] / images / len(passes):.2f} per shard and pass")
    after = (end["at"] - before["at"]) * HUNDRED_MILLION / images
    print(f"  at 100 million, if all grows with the images: {after:.0f} s after the last shard", flush=True)


def _check(arguments: argparse.Namespace, folder: Path) -> None:
    """Nothing is lost or doubled, as a plain reader of the folders sees it."""
    for name in arguments.passes:
        ids: Counter[str] = Counter()
        for path in (folder / name / "rows").iterdir():
            ids.update(pq.read_table(path, columns=["image_id"])["image_id"].to_pylist())
        if len(ids) != arguments.images or ids.total() != arguments.images:
            raise SystemExit(f"pass {name}: {ids.total()} rows of {len(ids)} images")
    print("  every image has one row in every pass", flush=True)


def child(what: str, path: str) -> None:
    """What a process of its own does."""
    {"drive": drive, "fill": fill}[what](argparse.Namespace(**json.loads(Path(path).read_text())))
