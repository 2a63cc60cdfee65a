"""A pass as a Ray Data pipeline: fetch in tasks, networks in actors, the rest there too or in tasks.

Where networks take no GPU and their workers do the rest too, these are tasks: the next pass finds their processes warm.

One row of the Dataset is one shard, so that Ray can neither split nor merge what is published together.
What comes out is a small summary per shard; results go from the workers straight to storage.
"""

import gc
import importlib
import math
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

import ray
import ray.data
from ray.data import ActorPoolStrategy, TaskPoolStrategy
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError

from pfit_ray import storage
from pfit_ray.cluster.placement import Placement
from pfit_ray.cluster.prometheus import count_stages
from pfit_ray.cluster.quarantine import run_alone
from pfit_ray.cluster.resources import node_id
from pfit_ray.cluster.tries import LOST, CountedOperator, count_tries
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
WINDOW = 8192
"""Shards that Ray Data gets at a time: it keeps a few kB for each in the driver until the last of them is through."""
_START_DEATHS = 8
"""So many actors in a row may die while they start, and as many as there are workers."""


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
    lost: list[int] = []
    stream = _Stream(plan, config, run, len(shards), placement)
    with stream.counted():
        for start in range(0, len(shards), WINDOW):
            left = set(shards[start : start + WINDOW])
            for summary in stream.window(sorted(left)):
                left.remove(summary["shard"])
                yield summary
            lost += left
    if lost:
        say(f"pass {plan.name}: the workers of {len(lost)} shard(s) died; their images are tried one by one")
        del stream
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
    storage.remove(run.url(plan.name, "tries"))


class _Stream:
    """The pipeline of one pass; shards go through it in windows, and workers that are tasks keep what they have loaded.

    Args:
        plan: the chains of the pass.
        config: the run's config.
        run: the run directory.
        shards: how many there are in all.
        placement: what the workers take.
    """

    def __init__(self, plan: PassPlan, config: RunConfig, run: RunDirectory, shards: int, placement: Placement) -> None:
        self.plan, self.config, self.placement = plan, config, placement
        self.fetch, self.network, self.finish = plan.operators(config, run)
        self.finish.writer.report = count_stages
        for operator in (self.fetch, self.network, self.finish.chain):
            operator.where = node_id
        self.most = max(config.faults.max_lost_shards, shards // 10)
        self.given_up = 0
        self.tries = count_tries(run, plan.name, config.faults.shard_tries)
        # Actors would take their processes, and all that these have imported, with them at the end of the pass.
        self.kept = Kept(CountedOperator(FusedOperator(self.network, self.finish), "network", self.tries))

    @contextmanager
    def counted(self) -> Iterator[None]:
        """The time in which tries are counted."""
        try:
            yield
        finally:
            with suppress(RayError, RuntimeError, ValueError):  # an abandoned pass may outlive Ray
                ray.kill(self.tries)  # workers that are kept hold on to it

    def window(self, shards: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Take some shards through the pass; see `run_pass`. A shard that is given up yields nothing."""
        faults = self.config.faults
        try:
            for row in self._dataset(shards).iter_rows():
                if row.get(MISTAKE):
                    raise UserError(row[MISTAKE])
                if not row.get(LOST):
                    yield _without_nulls(row)
                    continue
                self.given_up += 1
                if self.given_up > self.most:
                    raise self._failed(f"shard {row['shard']}: {row[LOST]}")
        except ExecutionTimeoutError as error:
            raise RunFailedError(
                f"pass {self.plan.name}: nothing has moved for {faults.silence_seconds:g} seconds "
                f"(faults.silence_seconds); {_waiting(error)}; see whether the cluster has room for it; the same "
                "command continues from the finished shards"
            ) from error
        except RayError as error:
            raise self._failed(last_line(error)) from error

    def _dataset(self, shards: Sequence[int]) -> ray.data.Dataset:
        config, placement, memory = self.config, self.placement, self.placement.memory
        workers = min(placement.network_workers, len(shards))
        of_networks = {
            "label_selector": self._selector("network"),
            "num_cpus": placement.network_cpus,
            "memory": memory and memory.network,
        }

        def in_actors(operator: Any) -> dict[str, Any]:
            return {
                "fn": CountedOperator,
                "fn_constructor_args": (operator, "network", self.tries),
                "compute": ActorPoolStrategy(min_size=min(placement.min_network_workers, workers), max_size=workers),
                **of_networks,
                "num_gpus": placement.network_gpus,
            }

        dataset = ray.data.from_items([{"shard": shard} for shard in shards], override_num_blocks=len(shards))
        context = dataset.context  # its own: other datasets of this process keep their ways
        context.max_errored_blocks = self.most
        context.execution_no_progress_timeout_s = config.faults.silence_seconds
        context.max_consecutive_actor_init_deaths = _START_DEATHS + workers  # a lost node may take many that start
        # No pool is larger than what it gets: Ray Data would warn of it.
        dataset = dataset.map(
            CountedOperator(self.fetch, "fetch", self.tries).__call__,
            num_cpus=placement.fetch_cpus,
            memory=memory and memory.fetch,
            compute=_pool(
                config.resources.fetch, len(shards), math.ceil(workers / FED_BY_ONE) if placement.fused else None
            ),
            label_selector=self._selector("fetch"),
        )
        if placement.fused and placement.network_gpus:
            return dataset.map(**in_actors(FusedOperator(self.network, self.finish)))
        if placement.fused:
            return dataset.map(self.kept.__call__, compute=TaskPoolStrategy(size=workers), **of_networks)
        return dataset.map(**in_actors(self.network)).map(
            CountedOperator(self.finish, "cpu", self.tries).__call__,
            num_cpus=placement.cpu_cpus,
            memory=memory and memory.cpu,
            compute=_pool(config.resources.cpu, len(shards)),
            label_selector=self._selector("cpu"),
        )

    def _selector(self, operator: str) -> dict[str, str] | None:
        return dict(self.placement.labels.get(operator, {})) or None

    def _failed(self, why: str) -> RunFailedError:
        return RunFailedError(
            f"pass {self.plan.name}: workers cannot start, or more than {self.most} shards have lost theirs "
            f"(faults.max_lost_shards): {why}; the same command continues from the finished shards"
        )


def _without_nulls(value: Any) -> Any:
    """A mapping without what other rows of its block have and it has not."""
    if not isinstance(value, dict):
        return value
    return {key: _without_nulls(one) for key, one in value.items() if one is not None}


def _waiting(error: ExecutionTimeoutError) -> str:
    _, _, running = str(error).partition("still running:")
    names = [line.strip(" -") for line in running.splitlines() if line.strip(" -")]
    return f"waiting at: {names[0]}" if names else "no operator says what it waits for"


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


def _pool(resources: StageResources, shards: int, most: int | None = None) -> TaskPoolStrategy:
    """Tasks; without a bound Ray would keep a quarter of the CPUs free for readers that take hardly any."""
    sizes = [size for size in (resources.workers, most) if size]
    return TaskPoolStrategy(size=min(*sizes, shards) if sizes else None)
