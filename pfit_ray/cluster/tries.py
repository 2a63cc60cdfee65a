"""How often the workers of a shard have died: Ray tries a task without end, and we do not."""

import logging
from collections import Counter
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pfit_ray import storage
from pfit_ray.cluster.resources import node_id
from pfit_ray.errors import last_line
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.tasks.packing import MISTAKE, Packed

LOST = "lost"
"""Column of a row whose shard is given up: why."""

_log = logging.getLogger(__name__)


def lives(node: str) -> bool:
    """Whether a node is in the cluster."""
    return any(one["NodeID"] == node and one["Alive"] for one in ray.nodes())


class Tries:
    """Counts, for one pass, the workers that died at each shard; one actor, whom every operator asks before a shard.

    A shard that is begun again without having been ended has lost its worker. A death is written beside the shards,
    so that a lost driver does not forget it; a shard whose workers live costs no request. A node that is lost is no
    fault of the shard.

    Args:
        run: the run directory.
        name: the pass.
        limit: deaths after which a shard is given up.
    """

    def __init__(self, run: RunDirectory, name: str, limit: int) -> None:
        self.run = run
        self.name = name
        self.limit = limit
        self.begun: dict[tuple[str, int], str] = {}
        self.deaths: Counter[int] = Counter()
        folder = run.url(name, "tries")
        for url, _ in storage.list_files(folder) if storage.exists(folder) else ():
            file = url.rpartition("/")[2]
            self.deaths[int(file.partition(".")[0])] = run.read_json(name, "tries", file)["deaths"]

    def begin(self, operator: str, shard: int, node: str) -> bool:
        """Note that an operator begins with a shard on a node; False if too many workers have died at it."""
        before = self.begun.pop((operator, shard), None)
        if before is not None and lives(before):
            self.deaths[shard] += 1
            self.run.write_json({"deaths": self.deaths[shard]}, self.name, "tries", f"{shard:05d}.json")
        if self.deaths[shard] >= self.limit:
            return False
        self.begun[operator, shard] = node
        return True

    def end(self, operator: str, shard: int) -> None:
        """Note that an operator has done its part of a shard."""
        self.begun.pop((operator, shard), None)


def count_tries(run: RunDirectory, name: str, limit: int) -> Any:
    """Start the actor `Tries` of a pass, beside the driver where there is room."""
    here = NodeAffinitySchedulingStrategy(node_id(), soft=True)
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
    return ray.remote(**options)(Tries).remote(run, name, limit)


class CountedOperator:
    """An operator whose tries are counted; a shard that is given up, or breaks the operator, travels on as data.

    Args:
        operator: takes a packed shard and gives one, or a summary.
        name: its name.
        tries: the actor that counts.
    """

    def __init__(self, operator: Any, name: str, tries: Any) -> None:
        self.operator = operator
        self.name = name
        self.tries = tries

    def __call__(self, packed: Packed) -> Packed:
        """Run the operator over one shard."""
        if packed.get(MISTAKE) or packed.get(LOST):
            return packed
        shard = int(packed["shard"])
        # As a future: while a task waits by ray.get, Ray lends its CPU to another one.
        if not self.tries.begin.remote(self.name, shard, node_id()).future().result():
            return {"shard": shard, LOST: "its workers died"}
        try:
            result: Packed = self.operator(packed)
        except Exception as error:
            _log.exception("shard %d broke operator %s", shard, self.name)
            result = {"shard": shard, LOST: f"{type(error).__name__}: {last_line(error)}"}
        self.tries.end.remote(self.name, shard)
        return result
