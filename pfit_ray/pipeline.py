"""A pass as a Ray Data pipeline: fetch in tasks, networks in actors, the rest and the writing in tasks.

One row of the Dataset is one shard, so that Ray can neither split nor merge what is published together.
What comes out is a small summary per shard; results go from the workers straight to storage.
"""

import gc
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError
from ray.util.annotations import RayDeprecationWarning

from pfit_ray.config import RunConfig
from pfit_ray.config.resources import StageResources
from pfit_ray.errors import UserError
from pfit_ray.failures import RunFailedError, last_line
from pfit_ray.layout import RunDirectory
from pfit_ray.memory import WorkerMemory, fit_memory
from pfit_ray.metrics import count_stages
from pfit_ray.quarantine import run_alone
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
    memory: WorkerMemory | None = None
    warning: str | None = None

    def describe(self) -> str:
        """One line for people."""
        gpu = f", {self.network_gpus:g} GPU" if self.network_gpus else ""
        return (
            f"networks: up to {self.network_workers} actors of {self.network_cpus:g} CPU{gpu}; "
            f"the rest: tasks of {self.cpu_cpus:g} CPU"
        )


def place(
    config: RunConfig,
    total_cpus: float,
    total_gpus: float,
    total_memory: float | None = None,
    node_memory: float | None = None,
) -> Placement:
    """Decide what the operators take on a cluster of the given size.

    Args:
        config: the run's config.
        total_cpus: CPUs of the cluster.
        total_gpus: GPUs of the cluster.
        total_memory: memory of the cluster in bytes; None reserves none.
        node_memory: memory of the largest node in bytes; None takes that of the cluster.

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
    memory, warning = None, None
    if total_memory is not None:
        memory, warning = fit_memory(config, gpus > 0, total_memory, node_memory or total_memory)
        beside = 0 if gpus else memory.cpu  # as many CPU tasks should run as networks
        room = min(room, max(1, int((total_memory - memory.fetch - memory.cpu) // (memory.network + beside))))
    return Placement(
        memory=memory,
        warning=warning,
        fetch_cpus=resources.fetch.cpus,
        network_cpus=network.cpus,
        network_gpus=gpus,
        network_workers=min(room, network.workers or room),
        cpu_cpus=cpu.cpus,
    )


def run_pass(
    plan: PassPlan,
    config: RunConfig,
    run: RunDirectory,
    shards: Sequence[int],
    placement: Placement,
    say: Callable[[str], None] = print,
) -> Iterator[dict[str, Any]]:
    """Run a pass over some shards of its manifest.

    A shard whose workers die or stay silent `faults.shard_tries` times is taken apart at the end, see `run_alone`.

    Args:
        plan: the chains of the pass.
        config: the run's config.
        run: the run directory.
        shards: the shards that are not finished.
        placement: what the workers take.
        say: tells the user that shards are taken apart.

    Yields:
        `shard`, `ok` and `failed` of each shard as soon as it is published.

    Raises:
        UserError: a mistake that a worker has found, such as a damaged weight file.
        RunFailedError: when nothing moves any more, or too many shards lose their workers.
    """
    lost = set(shards)
    for summary in _stream(plan, config, run, shards, placement):
        lost.remove(summary["shard"])
        yield summary
    if lost:
        say(f"pass {plan.name}: the workers of {len(lost)} shard(s) died; their images are tried one by one")
        gc.collect()  # the errors of the lost shards hold the pipeline's actors, and these their CPUs and GPUs
        takes = {"num_cpus": max(placement.network_cpus, placement.cpu_cpus), "num_gpus": placement.network_gpus}
        if placement.memory is not None:
            takes["memory"] = max(placement.memory.network, placement.memory.cpu)
        yield from run_alone(plan, config, run, sorted(lost), placement.network_workers, takes)


def _stream(
    plan: PassPlan, config: RunConfig, run: RunDirectory, shards: Sequence[int], placement: Placement
) -> Iterator[dict[str, Any]]:
    fetch, network, finish = plan.operators(config, run)
    finish.writer.report = count_stages
    faults = config.faults
    context = DataContext.get_current()
    context.max_errored_blocks = max(faults.max_lost_shards, len(shards) // 10)
    context.execution_no_progress_timeout_s = faults.silence_seconds
    tries = faults.shard_tries - 1
    workers = min(placement.network_workers, len(shards))
    memory = placement.memory
    with warnings.catch_warnings():
        # Ray Data has no other place for the numbers of retries; by default it retries without end.
        warnings.filterwarnings("ignore", message=".*ray_remote_args", category=RayDeprecationWarning)
        dataset = (
            ray.data.from_items([{"shard": shard} for shard in shards], override_num_blocks=len(shards))
            .map(
                fetch.__call__,
                num_cpus=placement.fetch_cpus,
                memory=memory and memory.fetch,
                compute=_pool(config.resources.fetch, len(shards)),
                max_retries=tries,
            )
            .map(
                _NetworkActor,
                fn_constructor_args=(network,),
                compute=ActorPoolStrategy(min_size=1, max_size=workers),
                num_cpus=placement.network_cpus,
                num_gpus=placement.network_gpus,
                memory=memory and memory.network,
                max_restarts=-1,
                max_task_retries=tries,
            )
            .map(
                finish.__call__,
                num_cpus=placement.cpu_cpus,
                memory=memory and memory.cpu,
                compute=_pool(config.resources.cpu, len(shards)),
                max_retries=tries,
            )
        )
    try:
        for row in dataset.iter_rows():
            if MISTAKE in row:
                raise UserError(row[MISTAKE])
            yield {name: int(value) for name, value in row.items()}
    except ExecutionTimeoutError as error:
        raise RunFailedError(
            f"pass {plan.name}: nothing has moved for {faults.silence_seconds:g} seconds (faults.silence_seconds); "
            f"{_waiting(error)}; see whether the cluster has room for it; the same command goes on from the finished "
            "shards"
        ) from error
    except RayError as error:
        raise RunFailedError(
            f"pass {plan.name}: workers cannot start, or more than {context.max_errored_blocks} shards have lost "
            f"theirs (faults.max_lost_shards): {last_line(error)}; the same command goes on from the finished shards"
        ) from error


def _waiting(error: ExecutionTimeoutError) -> str:
    _, _, running = str(error).partition("still running:")
    names = [line.strip(" -") for line in running.splitlines() if line.strip(" -")]
    return f"waiting at: {names[0]}" if names else "no operator says what it waits for"


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
