"""Images whose shard lost its workers again and again: each is tried alone, and what kills is found and named."""

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

from pfit_ray.cluster.prometheus import count_stages
from pfit_ray.cluster.resources import node_id
from pfit_ray.cluster.tries import lives
from pfit_ray.config import RunConfig
from pfit_ray.config.resources import FaultsConfig
from pfit_ray.constants import Row
from pfit_ray.errors import RunFailedError, UserError, last_line
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.storage.threads import prefetch
from pfit_ray.tasks.alone import RowWorker
from pfit_ray.tasks.base import Timings, add_timings, fail
from pfit_ray.tasks.packing import pack_rows, unpack_rows
from pfit_ray.tasks.passes import PassPlan
from pfit_ray.tasks.write import ShardWriter, summary

_LOOK_SECONDS = 0.5
"""Between two looks whether the work is to end."""
_SETTLE_SECONDS = 2.0
"""After the death of a worker, until Ray knows whether its node is lost too."""
_START_TRIES = 10
"""Workers that may die one after the other before they begin with an image."""


class _StoppedError(Exception):
    """The driver wants no more results."""


def run_alone(
    plan: PassPlan, config: RunConfig, run: RunDirectory, shards: Sequence[int], workers: int, takes: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Take shards through a pass, image by image, each in a worker that may die.

    An image that kills its worker `faults.image_tries` times becomes a failed row, with the stage that it died in;
    the others of its shard get the same results as in the pipeline.

    Args:
        plan: the chains of the pass.
        config: the run's config.
        run: the run directory.
        shards: the shards.
        workers: how many shards are worked on at the same time.
        takes: resources of a worker, as arguments of `ray.remote`.

    Yields:
        What `summary` tells of each shard, once it is published.

    Raises:
        UserError: a mistake that a worker has found.
        RunFailedError: when a shard cannot be published.
    """
    one = _Quarantine(plan, config, run, takes)
    threads = min(workers, len(shards))
    yield from prefetch(one.shard, shards, threads=threads, ahead=workers, stop=one.stopped.set)


class _Quarantine:
    def __init__(self, plan: PassPlan, config: RunConfig, run: RunDirectory, takes: dict[str, Any]) -> None:
        self.plan = plan
        self.faults: FaultsConfig = config.faults
        self.fetch, network, finish = plan.operators(config, run)
        self.writer = finish.writer
        self.writer.report = count_stages
        self.stages = [*plan.network, *plan.finish]
        self.threads = [network.threads] * len(plan.network) + [finish.chain.threads] * len(plan.finish)
        self.actor = ray.remote(**takes, max_restarts=0)(RowWorker)
        self.write = ray.remote(num_cpus=0)(_write)
        self.stopped = threading.Event()

    def get(self, reference: Any) -> Any:
        """The value of a reference, unless the driver wants no more."""
        while not ray.wait([reference], timeout=_LOOK_SECONDS)[0]:
            if self.stopped.is_set():
                raise _StoppedError
        return ray.get(reference)

    def worker(self) -> Any:
        """A new worker."""
        return self.actor.remote(self.fetch, self.stages, self.threads, self.faults.stage_seconds)

    def shard(self, shard: int) -> dict[str, Any]:
        """Work on one shard and publish it."""
        worker = _Worker(self)
        try:
            packed = [worker.row(shard, index, row) for index, row in enumerate(self.fetch.rows(shard))]
            nodes = {"alone": worker.node} if worker.node else {}
            result: dict[str, Any] = self.get(self.write.remote(self.writer, shard, packed, nodes))
            return result
        except RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise self._failed(shard, error) from error
        except RayError as error:
            raise self._failed(shard, error) from error
        finally:
            worker.end()

    def _failed(self, shard: int, error: RayError) -> RunFailedError:
        return RunFailedError(
            f"pass {self.plan.name}: shard {shard} cannot be finished ({last_line(error)}); "
            "the same command continues from the finished shards"
        )


class _Worker:
    """The driver's side of one RowWorker, which is replaced when it dies."""

    def __init__(self, quarantine: _Quarantine) -> None:
        self.quarantine = quarantine
        self.actor: Any = None
        self.node: str | None = None

    def row(self, shard: int, index: int, row: Row) -> Any:
        """The packed row (or a reference to it) after all stages; a failed one if it cannot live through them."""
        get, faults = self.quarantine.get, self.quarantine.faults
        starts, deaths = 0, list[str]()
        while True:
            stage, began = "", time.monotonic()
            try:
                if self.actor is None:
                    self.actor = self.quarantine.worker()
                    # The wait for room is not the image's.
                    self.node = get(self.actor.__ray_call__.remote(_node_of))
                stage, began = "fetch", time.monotonic()
                going = get(self.actor.begin.remote(shard, index))
                for number, next_stage in enumerate(self.quarantine.stages):
                    if not going:
                        break
                    stage, began = next_stage.name, time.monotonic()
                    going = get(self.actor.run_stage.remote(number))
                packed = self.actor.take.remote()
                ray.wait([packed], fetch_local=False)
                return packed
            except (RayActorError, OutOfMemoryError) as error:
                seconds = time.monotonic() - began
                self.end()
                if not stage:  # it has not begun with the image
                    starts += 1
                    if starts >= _START_TRIES:
                        raise
                    continue
                if not getattr(error, "preempted", False):
                    deaths.append(self.node or "")
                if len(deaths) < faults.image_tries:
                    continue
                time.sleep(_SETTLE_SECONDS)
                deaths = [node for node in deaths if lives(node)]  # a lost node is no fault of the image
                if len(deaths) >= faults.image_tries:
                    reason, message = _cause(error, stage, seconds, faults, len(deaths))
                    fail(row, stage, reason, message)
                    return pack_rows([row], {})

    def end(self) -> None:
        """Let the worker go."""
        if self.actor is not None:
            ray.kill(self.actor)
            self.actor = None


def _cause(error: Exception, stage: str, seconds: float, faults: FaultsConfig, died: int) -> tuple[str, str]:
    times = f"{died} times" if died > 1 else "once"
    if isinstance(error, OutOfMemoryError) or "OutOfMemory" in str(error) or "memory pressure" in str(error):
        return "out_of_memory", f"stage {stage} ran out of memory, {times}, alone in its worker"
    if seconds >= faults.stage_seconds:
        return "stuck", f"stage {stage} did not end within {faults.stage_seconds:g} seconds, {times}"
    return "crashed", f"stage {stage} killed its worker, {times}, alone in it"


def _node_of(worker: RowWorker) -> str:
    return node_id()


def _write(writer: ShardWriter, shard: int, packed: list[Any], nodes: dict[str, str]) -> dict[str, Any]:
    rows: list[Row] = []
    timings: Timings = {}
    for one in packed:
        data = ray.get(one) if isinstance(one, ray.ObjectRef) else one
        more, took = unpack_rows(data)
        rows += more
        timings = add_timings(timings, took)
    marker = writer.write(shard, rows, timings, nodes)
    return summary(marker)
