"""Hours and money: what the passes of a run take on a machine or a cluster, from what an image takes."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from pfit_ray.cluster.pipeline import FED_BY_ONE
from pfit_ray.cluster.placement import Placement, place
from pfit_ray.cluster.resources import Cluster, merged
from pfit_ray.config import Pass, RunConfig
from pfit_ray.config.resources import PricesConfig, ResourcesConfig
from pfit_ray.errors import UserError
from pfit_ray.rundir.directory import Network, RunDirectory
from pfit_ray.rundir.pace import describe_duration, describe_records, read_metrics
from pfit_ray.tasks.base import Timings, add_timings
from pfit_ray.tasks.passes import PassPlan, plan_pass

HOUR = 3600.0
_MARKERS = 64
"""Finished shards of a pass that are looked at."""


@dataclass(frozen=True)
class Cost:
    """Seconds of one worker that an image takes in a pass.

    Attributes:
        fetch: of a task that reads.
        network: of a worker of the networks, decoding among them.
        rest: of a worker that does the rest.
        gpu: whether the network was on a GPU.
        how: how it was measured, in words.
    """

    fetch: float
    network: float
    rest: float
    gpu: bool
    how: str


@dataclass(frozen=True)
class Work:
    """What a pass still has to do, and what an image of it takes, or why nobody knows."""

    name: Pass
    images: int
    shards: int
    cost: Cost | str


def cost_of(timings: Timings, plan: PassPlan, images: int, how: str, at_once: int = 1) -> Cost:
    """The cost of an image of a pass.

    Args:
        timings: what its stages took for these images.
        plan: the pass.
        images: how many there were, failed ones among them.
        how: how it was measured, in words.
        at_once: images that a run reads at the same time, where these were read one by one.
    """
    networks = {stage.name for stage in plan.network}
    seconds = dict.fromkeys(("fetch", "network", "rest"), 0.0)
    for stage, timing in timings.items():
        kind = "fetch" if stage == "fetch" else "network" if stage in networks else "rest"
        seconds[kind] += timing["seconds"] / images
    gpu = any(timing.get("gpu_seconds", 0.0) > 0 for timing in timings.values())
    return Cost(seconds["fetch"] / at_once, seconds["network"], seconds["rest"], gpu, how)


def finished_cost(config: RunConfig, run: RunDirectory, name: Pass) -> Cost | None:
    """The cost of an image, as the first finished shards of a pass say; None if there is none."""
    markers = [marker for _, marker in islice(run.markers(name), _MARKERS)]
    images = sum(marker["ok"] + marker["failed"] for marker in markers)
    if not images:
        return None
    timings: Timings = {}
    for marker in markers:
        timings = add_timings(timings, marker["stages"])
    how = f"measured on {images} images of this run, in {len(markers)} finished shards"
    return cost_of(timings, plan_pass(name, config, run), images, how)


def pass_seconds(work: Work, placement: Placement, cluster: Cluster, resources: ResourcesConfig) -> tuple[float, str]:
    """How long a pass takes, and the workers that the others wait for.

    Args:
        work: what it has to do, at a cost that is known.
        placement: its workers.
        cluster: where they are.
        resources: bounds on their numbers.
    """
    cost = work.cost
    assert isinstance(cost, Cost)
    readers = resources.fetch.workers or math.inf
    if placement.fused:
        loads = {"workers": (placement.network_workers, cost.network + cost.rest)}
        readers = min(readers, math.ceil(placement.network_workers / FED_BY_ONE))
    else:
        tasks = _cpu_tasks(placement, cluster, resources)
        loads = {"networks": (placement.network_workers, cost.network), "CPU tasks": (tasks, cost.rest)}
        readers = min(readers, max(1, math.floor(tasks * placement.cpu_cpus / placement.fetch_cpus)))
    loads["reading"] = (int(readers), cost.fetch)
    per_shard = work.images / work.shards
    seconds = {kind: math.ceil(work.shards / slots) * per_shard * each for kind, (slots, each) in loads.items()}
    slowest = max(seconds, key=seconds.__getitem__)
    return seconds[slowest], slowest


def _cpu_tasks(placement: Placement, cluster: Cluster, resources: ResourcesConfig) -> int:
    """CPU tasks that run beside the networks."""
    wanted, networks = (placement.labels.get(kind, {}) for kind in ("cpu", "network"))
    kinds = [kind for kind in cluster.kinds if kind.has(wanted)]
    cpus = sum(kind.cpus * kind.count for kind in kinds)
    if any(kind.has(networks) for kind in kinds):
        cpus -= placement.network_workers * placement.network_cpus
    tasks = max(1, math.floor(cpus / placement.cpu_cpus))
    return min(tasks, resources.cpu.workers or tasks)


def describe_estimate(
    config: RunConfig, here: str, cluster: Cluster, placement: Placement, works: Sequence[Work]
) -> Iterator[str]:
    """Lines for people: seconds per image, and hours and money here and on the nodes that the config describes.

    Args:
        config: the run's config.
        here: the machine or cluster in words.
        cluster: the same.
        placement: the workers there.
        works: the passes that have work.
    """
    known = [work for work in works if isinstance(work.cost, Cost)]
    for work in works:
        yield f"pass {work.name}, {work.images} images to do: {_describe_cost(work.cost)}"
    if not known:
        return
    yield _describe_time(config, here, cluster, placement, works)
    if config.resources.node_types and not any(kind.more for kind in cluster.kinds):  # else it counts them
        described = merged(Counter(), config.resources.node_types)
        nodes = sum(kind.count for kind in described.kinds)
        there = f"on resources.node_types ({nodes} nodes, {described.cpus:g} CPU, {described.gpus:g} GPU)"
        try:
            yield _describe_time(config, there, described, place(config, described), works)
        except UserError as error:
            yield f"time {there}: none, {error}"
    yield (
        "assumed: every worker is as fast as those that were measured, storage keeps up, and all machines are there, "
        "and paid for, all the time"
    )


def describe_trainings(config: RunConfig, run: RunDirectory, networks: Sequence[Network]) -> Iterator[str]:
    """A line for each training that is to be done, which no estimate covers."""
    for network in networks:
        if getattr(config, network).source == "train":
            records = read_metrics(run.url("train", network))
            far = f", which is at {describe_records(records)}" if records else ""
            yield f"not included: the training of {network}{far}"
    yield "not included: listing, the start of Ray and of its workers, scores and report"


def _describe_cost(cost: Cost | str) -> str:
    if isinstance(cost, str):
        return f"seconds per image not known, {cost}"
    parts = f"networks {cost.network:.3g} on a {'GPU' if cost.gpu else 'CPU'}, the rest {cost.rest:.3g}"
    return f"{cost.network + cost.rest:.3g} s per image ({parts}; reading {cost.fetch:.3g} beside it), {cost.how}"


def _describe_time(config: RunConfig, where: str, cluster: Cluster, placement: Placement, works: Sequence[Work]) -> str:
    total, parts, notes = 0.0, list[str](), list[str]()
    for work in works:
        if not isinstance(work.cost, Cost):
            parts.append(f"{work.name} not known")
        elif work.cost.gpu and not placement.network_gpus:
            parts.append(f"{work.name} not known, as its network was measured on a GPU")
        else:
            seconds, slowest = pass_seconds(work, placement, cluster, config.resources)
            total += seconds
            waits = "" if placement.fused and slowest == "workers" else f" (limited by {slowest})"
            parts.append(f"{work.name} {describe_duration(seconds)}{waits}")
            if placement.network_gpus and not work.cost.gpu:
                notes.append(work.name)
    slower = f"; less, as networks of {', '.join(notes)} were measured on a CPU and run on GPUs there" if notes else ""
    money = describe_price(total, cluster, config.resources.prices)
    return f"time {where}: {describe_duration(total)} ({', '.join(parts)}){slower}{money}"


def describe_price(seconds: float, cluster: Cluster, prices: PricesConfig) -> str:
    """What all of a cluster costs for some time, as the end of a sentence; nothing without prices."""
    nodes = sum(kind.count for kind in cluster.kinds)
    per_hour = cluster.cpus * prices.cpu_hour + cluster.gpus * prices.gpu_hour + nodes * prices.node_hour
    if not per_hour:
        return ""
    currency = f" {prices.currency}" if prices.currency else ""
    price = seconds / HOUR * per_hour
    return f"; {price:{',.2f' if price >= 1 else '.2g'}}{currency} at {per_hour:g}{currency} per hour"
