"""A quick pass 3 without networks, and stages that do to their worker what crashes, stuck calls and full disks do."""

import errno
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import ray
from PIL import Image
from ray.cloudpickle import register_pickle_by_value

from pfit_ray.cluster.pipeline import run_pass
from pfit_ray.cluster.placement import place
from pfit_ray.cluster.resources import Cluster
from pfit_ray.config.load import validate
from pfit_ray.constants import Row
from pfit_ray.data.sources.item import Item
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.manifest import write_manifest
from pfit_ray.tasks.base import Stage
from pfit_ray.tasks.encode import EncodeStage
from pfit_ray.tasks.operators import DecodeStage
from pfit_ray.tasks.passes import PassPlan

register_pickle_by_value(sys.modules[__name__])  # workers do not know the tests' folder


def write_pictures(folder: Path, image_ids: tuple[str, ...], shard_size: int) -> RunDirectory:
    """Small pictures, and a run directory with their manifest."""
    rng = np.random.default_rng(0)
    items = []
    for image_id in image_ids:
        path = folder / f"{image_id}.png"
        Image.fromarray(rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)).save(path)
        items.append(Item(image_id, str(path)))
    run = RunDirectory(str(folder / "run"))
    write_manifest(run, "predict", iter(items), shard_size=shard_size)
    return run


def expected_labels(run: RunDirectory, image_ids: tuple[str, ...]) -> dict[str, bytes]:
    """The label PNGs of these pictures, computed here."""
    labels = {}
    for image_id in image_ids:
        row = {"image_id": image_id, "uri": "", "status": "ok", "height": 8, "width": 9}
        with Image.open(Path(run.root).parent / f"{image_id}.png") as image:
            row["image"] = np.array(image)
        Paint().process(row)
        EncodeStage("predict", "float16").process(row)
        labels[image_id] = row["label"]
    return labels


def paint_plan(
    *,
    network: tuple[Stage, ...] = (),
    finish: tuple[Stage, ...] = (),
    last: tuple[Stage, ...] = (),
    retry: bool = False,
) -> PassPlan:
    """Pass 3 with `Paint` in the place of networks and CRF, and faults in both chains and after the encoding."""
    decode = DecodeStage(10**6)
    return PassPlan(
        "predict",
        network=[decode, *network],
        finish=[Paint(), *finish, EncodeStage("predict", "float16"), *last],
        retry=retry,
    )


def go(
    run: RunDirectory, plan: PassPlan, shards: list[int], cpus: float = 2, **faults: float
) -> Iterator[tuple[int, tuple[int, int]]]:
    """Run a pass: each shard as it is published, with how many of its images are ok and how many have failed."""
    config = validate({"output": run.root, "data": {"source": "samples"}, "faults": faults})
    results = run_pass(plan, config, run, shards, place(config, Cluster.of_one_node(cpus)))
    return ((one["shard"], (one["ok"], one["failed"])) for one in results)


@dataclass
class Bomb(Stage):
    """Kills its process at some images; with `marks`, a folder, only at the first `times` tries of each."""

    image_ids: tuple[str, ...]
    name: str = "bomb"  # type: ignore[misc]
    marks: str | None = None
    times: int = 1

    def process(self, row: Row) -> None:
        """Die, if this is the image."""
        if row["image_id"] not in self.image_ids:
            return
        if self.marks is not None:
            tries = len(list(Path(self.marks).glob(f"{row['image_id']}-*")))
            if tries >= self.times:
                return
            (Path(self.marks) / f"{row['image_id']}-{tries}").touch()
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class DiesWriting(Stage):
    """Kills its process while the shard of an image is published, once for each image.

    Before the n-th file gets its name, when its bytes lie there under another one; with 3 after the third, the marker.
    """

    deaths: dict[str, int]
    marks: str
    name: str = "dies_writing"  # type: ignore[misc]

    def process(self, row: Row) -> None:
        """Set the trap, if this is an image to die at, and nobody has."""
        boundary = self.deaths.get(row["image_id"])
        mark = Path(self.marks) / row["image_id"]
        if boundary is None or mark.exists():
            return
        mark.touch()
        real, named = os.replace, list[str]()

        def replace(source: str, target: str) -> None:
            if len(named) == boundary:
                os.kill(os.getpid(), signal.SIGKILL)
            real(source, target)
            named.append(target)
            if len(named) == boundary == 3:
                os.kill(os.getpid(), signal.SIGKILL)

        os.replace = replace  # type: ignore[assignment]


@dataclass
class Heavy(Stage):
    """Leaves the id of its process in a folder each time that it loads."""

    marks: str
    name: str = "heavy"  # type: ignore[misc]

    def setup(self) -> None:
        """Load."""
        (Path(self.marks) / f"{os.getpid()}-{time.monotonic_ns()}").touch()

    def process(self, row: Row) -> None:
        """Do nothing."""


@dataclass
class DiesAtStart(Stage):
    """Ends the first `times` processes that it comes to while they start: by an error, by SIGKILL and so on.

    Ray replaces an actor that was killed by itself, and one whose constructor raised only if the pass allows it.
    """

    marks: str
    times: int = 1
    name: str = "dies_at_start"  # type: ignore[misc]

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Die, or come to life."""
        self.__dict__.update(state)
        tries = len(list(Path(self.marks).iterdir()))
        if tries < self.times:
            (Path(self.marks) / str(tries)).touch()
            if tries % 2 == 0:
                raise OSError("no answer from the storage")
            os.kill(os.getpid(), signal.SIGKILL)

    def process(self, row: Row) -> None:
        """Do nothing."""


class Paint(Stage):
    """Stands in for the networks and the CRF of pass 3: a label map that follows from the image."""

    name = "paint"

    def process(self, row: Row) -> None:
        """Add the columns of pass 3."""
        bright = row["image"].mean(axis=2) > 128
        row.update(keys=[1], margin=0.5, crf_change=0.0, foreground_share=float(bright.mean()))
        row["prediction"] = bright.astype(np.uint8)


@dataclass
class Sleeper(Stage):
    """Never ends at some images."""

    image_ids: tuple[str, ...]
    name: str = "sleeper"  # type: ignore[misc]

    def process(self, row: Row) -> None:
        """Sleep, if this is the image."""
        while row["image_id"] in self.image_ids:
            time.sleep(60)


@dataclass
class FullDisk(Stage):
    """From the first image on, the disk is full for this worker while a file lies there."""

    mark: str
    name: str = "full_disk"  # type: ignore[misc]

    def process(self, row: Row) -> None:
        """Fill the disk."""
        replace = os.replace

        def full(source: str, target: str) -> None:
            if Path(self.mark).exists() and "predict/rows" in str(target):
                raise OSError(errno.ENOSPC, "No space left on device")
            replace(source, target)

        mock.patch("os.replace", full).start()


@dataclass
class Slow(Stage):
    """Takes its time, so that something can happen meanwhile."""

    seconds: float
    name: str = "slow"  # type: ignore[misc]

    def process(self, row: Row) -> None:
        """Sleep."""
        time.sleep(self.seconds)


@dataclass
class Waits(Stage):
    """Holds images until workers of several nodes have come, and late ones until a file lies there.

    Args:
        seen: folder of a file for each node that has begun an image.
        nodes: how many must have come.
        mark: the file that late images wait for.
        first: images that wait for nothing.
        late: images that also wait for the file.
    """

    seen: str
    nodes: int
    mark: str
    first: tuple[str, ...]
    late: tuple[str, ...]
    name: str = "waits"  # type: ignore[misc]

    def process(self, row: Row) -> None:
        """Wait."""
        if row["image_id"] in self.first:
            return
        (Path(self.seen) / ray.get_runtime_context().get_node_id()).touch()
        late = row["image_id"] in self.late
        while len(list(Path(self.seen).iterdir())) < self.nodes or (late and not Path(self.mark).exists()):
            time.sleep(0.05)
