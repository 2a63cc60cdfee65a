"""What a run would do, without doing it."""

import os
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import torch

from pfit_ray.cluster.resources import Cluster
from pfit_ray.cluster.session import cluster_address, ray_session
from pfit_ray.config import RunConfig
from pfit_ray.config.data import ImageSetConfig
from pfit_ray.rundir.directory import Network
from pfit_ray.rundir.environment import check_packages
from pfit_ray.runner import fingerprint
from pfit_ray.runner.progress import Progress
from pfit_ray.runner.run import Runner, preflight
from pfit_ray.runner.steps import networks_of
from pfit_ray.train.provide import check_networks, check_reviews

NOTE_SECONDS = 10.0
"""Seconds of counting between two lines that say how far it is."""


@dataclass
class Count:
    """How much a set of images is."""

    images: int = 0
    bytes: int = 0
    unknown_sizes: int = 0

    def describe(self, shard_size: int) -> str:
        """In one phrase, with the shards that they make."""
        size = ""
        if self.unknown_sizes < self.images:
            at_least = "at least " if self.unknown_sizes else ""
            size = f" ({at_least}{_readable(self.bytes)})"
        return f"{self.images} images{size} in {-(-self.images // shard_size)} shards"


def describe_plan(config: RunConfig, address: str | None = None) -> Iterator[str]:
    """Lines for people: images, classes, resources, and each step with what it still has to do.

    The resources are those of the cluster at the address (or of RAY_ADDRESS), else of this machine.

    Sets of images that have no manifest yet are counted by listing them, as a stream; lines in between say how far
    the counting is, where it takes long.

    Raises:
        UserError: for every mistake that `run` would stop at before its work.
    """
    runner = Runner(config, Progress())
    fingerprint.check_fresh(runner.run_directory, config)
    steps = runner.steps()
    check_packages(config)
    networks = networks_of([step for step in steps if step.todo])
    check_networks(config, networks)
    check_reviews(config, runner.run_directory, networks)
    place = _describe_place(config, address, networks)
    names = config.data.class_list.names
    yield f"output: {runner.run_directory.root}"
    yield f"classes: {len(names)} ({', '.join(names[:8])}{', ...' if len(names) > 8 else ''})"
    yield f"fidelity: {config.fidelity}"
    counted: dict[ImageSetConfig, Count] = {}
    for step in steps:
        label = step.name if step.kind == "report" else f"{step.kind} {step.name}"
        count = ""
        if step.kind == "manifest":
            images: ImageSetConfig = getattr(config.data, step.name) or config.data.train
            if images not in counted:
                counted[images] = yield from _count(runner, step.name)
            count = f", {counted[images].describe(config.shard_size)}"
        yield f"{label}: {step.todo or 'finished'}{count}"
    yield place


def _describe_place(config: RunConfig, address: str | None, networks: list[Network]) -> str:
    if cluster_address(address) is None:
        machine = Cluster.of_one_node(max(2, os.cpu_count() or 1), torch.cuda.device_count())
        return f"on this machine: {preflight(config, machine, networks).describe()}"
    with ray_session(address, config.resources, verbose=False) as cluster:
        return f"on the cluster ({cluster}): {preflight(config, cluster, networks).describe()}"


def _count(runner: Runner, image_set: str) -> Generator[str, None, Count]:
    """Count a set of images: from its manifest, if there is one, else by listing it."""
    listed = runner.run_directory.read_json("manifest", f"{image_set}.json")
    if listed is not None:
        return Count(*(listed[name] for name in ("images", "bytes", "unknown_sizes")))
    count, noted = Count(), time.monotonic()
    for item in runner.images(image_set):
        count.images += 1
        count.bytes += item.size or 0
        count.unknown_sizes += item.size is None
        if time.monotonic() - noted >= NOTE_SECONDS:
            noted = time.monotonic()
            yield f"manifest {image_set}: counting the images, {count.images} so far"
    return count


def _readable(count: int) -> str:
    """A number of bytes in the largest unit that it has one of."""
    units = ("bytes", "kB", "MB", "GB", "TB", "PB")
    power = min((len(str(count)) - 1) // 3, len(units) - 1)
    return f"{count / 1000**power:.{min(power, 1)}f} {units[power]}"
