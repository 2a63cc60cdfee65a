"""A pass as a Ray Data pipeline: fetch in tasks, networks in actors, the rest there too or in tasks.

Where networks take no GPU and their workers do the rest too, these are tasks: the next pass finds their processes warm.

One row of the Dataset is one shard, so that Ray can neither split nor merge what is published together.
What comes out is a small summary per shard; results go from the workers straight to storage.
"""

import gc
import importlib
import math
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError
from ray.util.annotations import RayDeprecationWarning

from pfit_ray.cluster.placement import Placement
from pfit_ray.cluster.prometheus import count_stages
from pfit_ray.cluster.quarantine import run_alone
from pfit_ray.cluster.resources import node_id
from pfit_ray.config import RunConfig
from pfit_ray.config.resources import StageResources
from pfit_ray.errors import RunFailedError, UserError, last_line
from pfit_ray.ops.compiling import compile_kernels
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.tasks.operators import FusedOperator
from pfit_ray.tasks.packing import MISTAKE
from pfit_ray.tasks.passes import PassPlan

FED_BY_ONE = 4
"""Workers without a GPU that one task reads for: it reads many images at once, and they compute for much longer."""


def warm_up(worker: int, workers: int) -> None:
    """Import what a worker of the passes imports, which this module has not, and compile its share of the kernels."""
    importlib.import_module("timm")
    compile_kernels(worker, workers)


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
        What `summary` tells of each shard, as soon as it is published.

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
        takes: dict[str, Any] = {
            "num_cpus": max(placement.network_cpus, placement.cpu_cpus),
            "num_gpus": placement.network_gpus,
        }
        if placement.memory is not None:
            takes["memory"] = max(placement.memory.network, placement.memory.cpu)
        if placement.labels.get("network"):
            takes["label_selector"] = dict(placement.labels["network"])
        yield from run_alone(plan, config, run, sorted(lost), placement.network_workers, takes)


def _stream(
    plan: PassPlan, config: RunConfig, run: RunDirectory, shards: Sequence[int], placement: Placement
) -> Iterator[dict[str, Any]]:
    fetch, network, finish = plan.operators(config, run)
    finish.writer.report = count_stages
    for operator in (fetch, network, finish.chain):
        operator.where = node_id
    faults = config.faults
    context = DataContext.get_current()
    context.max_errored_blocks = max(faults.max_lost_shards, len(shards) // 10)
    context.execution_no_progress_timeout_s = faults.silence_seconds
    tries = faults.shard_tries - 1
    workers = min(placement.network_workers, len(shards))
    memory = placement.memory

    def selector(operator: str) -> dict[str, str] | None:
        return dict(placement.labels.get(operator, {})) or None

    of_networks = {
        "label_selector": selector("network"),
        "num_cpus": placement.network_cpus,
        "memory": memory and memory.network,
    }

    def in_actors(operator: Any) -> dict[str, Any]:
        return {
            "fn": _Actor,
            "fn_constructor_args": (operator,),
            "compute": ActorPoolStrategy(min_size=min(placement.min_network_workers, workers), max_size=workers),
            **of_networks,
            "num_gpus": placement.network_gpus,
            "max_restarts": -1,
            "max_task_retries": tries,
        }

    # The tail of a run, and what follows a lost shard, has fewer shards than workers. Ray Data warns of it from a
    # thread of its own until the last row; a block, open while rows are yielded, would change the caller's filters.
    warnings.filterwarnings("ignore", message="The (max|min)imum number of concurrent (tasks|actors) for")
    with warnings.catch_warnings():
        # Ray Data has no other place for the numbers of retries; by default it retries without end.
        warnings.filterwarnings("ignore", message=".*ray_remote_args", category=RayDeprecationWarning)
        dataset = ray.data.from_items([{"shard": shard} for shard in shards], override_num_blocks=len(shards)).map(
            fetch.__call__,
            num_cpus=placement.fetch_cpus,
            memory=memory and memory.fetch,
            compute=_pool(config.resources.fetch, math.ceil(workers / FED_BY_ONE) if placement.fused else None),
            label_selector=selector("fetch"),
            max_retries=tries,
        )
        if placement.fused and placement.network_gpus:
            dataset = dataset.map(**in_actors(FusedOperator(network, finish)))
        elif placement.fused:
            # Actors would take their processes, and all that these have imported, with them at the end of the pass.
            dataset = dataset.map(
                Kept(FusedOperator(network, finish)).__call__,
                compute=TaskPoolStrategy(size=workers),
                **of_networks,
                max_retries=tries,
            )
        else:
            dataset = dataset.map(**in_actors(network)).map(
                finish.__call__,
                num_cpus=placement.cpu_cpus,
                memory=memory and memory.cpu,
                compute=_pool(config.resources.cpu),
                label_selector=selector("cpu"),
                max_retries=tries,
            )
    try:
        for row in dataset.iter_rows():
            if MISTAKE in row:
                raise UserError(row[MISTAKE])
            yield row
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


class _Actor:
    """The actor of an operator with a network; Ray Data wants a class to keep state between shards."""

    def __init__(self, operator: Any) -> None:
        self.operator = operator

    def __call__(self, packed: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = self.operator(packed)
        return result


class Kept:
    """An operator that a process loads once: Ray hands it, as it was when the pass was declared, to each task anew."""

    latest: ClassVar[tuple[str, Any]] = ("", None)
    """Of this process: a new pass's operator takes the place, and the memory, of the last one's."""

    def __init__(self, operator: Any) -> None:
        self.key = uuid.uuid4().hex
        self.operator = operator

    def __call__(self, packed: dict[str, Any]) -> dict[str, Any]:
        """Take one shard through the operator."""
        if Kept.latest[0] != self.key:
            Kept.latest = self.key, self.operator
        result: dict[str, Any] = Kept.latest[1](packed)
        return result


def _pool(resources: StageResources, most: int | None = None) -> TaskPoolStrategy:
    """Tasks; without a bound Ray would keep a quarter of the CPUs free for readers that take hardly any."""
    sizes = [size for size in (resources.workers, most) if size]
    return TaskPoolStrategy(size=min(sizes) if sizes else None)
