"""A pass as a Ray Data pipeline: fetch in tasks, networks in actors, the rest and the writing in tasks.

One row of the Dataset is one shard, so that Ray can neither split nor merge what is published together.
What comes out is a small summary per shard; results go from the workers straight to storage.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import ray.data
from ray.data import ActorPoolStrategy, TaskPoolStrategy

from pfit_ray.config import RunConfig
from pfit_ray.config.resources import StageResources
from pfit_ray.errors import UserError
from pfit_ray.layout import RunDirectory
from pfit_ray.tasks.packing import MISTAKE
from pfit_ray.tasks.passes import PassPlan


@dataclass(frozen=True)
class Placement:
    """What one worker of each operator takes on this cluster."""

    fetch_cpus: float
    network_cpus: float
    network_gpus: float
    network_workers: int
    cpu_cpus: float

    def describe(self) -> str:
        """One line for people."""
        gpu = f", {self.network_gpus:g} GPU" if self.network_gpus else ""
        return (
            f"networks: up to {self.network_workers} actors of {self.network_cpus:g} CPU{gpu}; "
            f"the rest: tasks of {self.cpu_cpus:g} CPU"
        )


def place(config: RunConfig, total_cpus: float, total_gpus: float) -> Placement:
    """Decide what the operators take on a cluster of the given size.

    Raises:
        UserError: when one network worker and one CPU task do not fit at the same time; Ray would wait
            for ever.
    """
    resources = config.resources
    network, cpu = resources.network, resources.cpu
    gpus = _gpus(network, total_gpus)
    if gpus > total_gpus:
        raise UserError(
            f"resources.network.gpus asks for {gpus:g} GPUs and the cluster has {total_gpus:g}; lower it or add GPUs"
        )
    if network.cpus + cpu.cpus > total_cpus:
        raise UserError(
            f"resources.network.cpus {network.cpus:g} and resources.cpu.cpus {cpu.cpus:g} do not fit together "
            f"into the cluster's {total_cpus:g} CPUs; lower one of them"
        )
    room = int((total_cpus - cpu.cpus) // network.cpus)
    if gpus:
        room = min(room, int(total_gpus // gpus))
    else:
        room = max(1, room // 2)
    return Placement(
        fetch_cpus=resources.fetch.cpus,
        network_cpus=network.cpus,
        network_gpus=gpus,
        network_workers=min(room, network.workers or room),
        cpu_cpus=cpu.cpus,
    )


def run_pass(
    plan: PassPlan, config: RunConfig, run: RunDirectory, shards: Sequence[int], placement: Placement
) -> Iterator[dict[str, Any]]:
    """Run a pass over some shards of its manifest.

    Args:
        plan: the chains of the pass.
        config: the run's config.
        run: the run directory.
        shards: the shards that are not finished.
        placement: what the workers take.

    Yields:
        `shard`, `ok` and `failed` of each shard as soon as it is published.

    Raises:
        UserError: a mistake that a worker has found, such as a damaged weight file.
    """
    fetch, network, finish = plan.operators(config, run)
    workers = min(placement.network_workers, len(shards))
    dataset = (
        ray.data.from_items([{"shard": shard} for shard in shards], override_num_blocks=len(shards))
        .map(fetch.__call__, num_cpus=placement.fetch_cpus, compute=_pool(config.resources.fetch, len(shards)))
        .map(
            _NetworkActor,
            fn_constructor_args=(network,),
            compute=ActorPoolStrategy(min_size=1, max_size=workers),
            num_cpus=placement.network_cpus,
            num_gpus=placement.network_gpus,
        )
        .map(finish.__call__, num_cpus=placement.cpu_cpus, compute=_pool(config.resources.cpu, len(shards)))
    )
    for row in dataset.iter_rows():
        if MISTAKE in row:
            raise UserError(row[MISTAKE])
        yield {name: int(value) for name, value in row.items()}


class _NetworkActor:
    """The actor of the network operator; Ray Data wants a class to keep state between shards."""

    def __init__(self, operator: Any) -> None:
        self.operator = operator

    def __call__(self, packed: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = self.operator(packed)
        return result


def _gpus(network: StageResources, total_gpus: float) -> float:
    if network.gpus is not None:
        return network.gpus
    return 1.0 if total_gpus else 0.0


def _pool(resources: StageResources, shards: int) -> TaskPoolStrategy:
    return TaskPoolStrategy(size=min(resources.workers, shards) if resources.workers else None)
