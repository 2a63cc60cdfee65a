"""One row at a time, one stage per call: the images of a shard that lost its workers are tried alone."""

import copy
from collections.abc import Sequence

from pfit_ray.constants import OK, Row
from pfit_ray.tasks.base import Stage, StorageWatch, Timings, add_timings, run_stages, watchdog
from pfit_ray.tasks.fetch import FetchOperator, timed_fetch
from pfit_ray.tasks.operators import drop_transient, limit_threads
from pfit_ray.tasks.packing import pack_rows


class RowWorker:
    """Takes single rows of shards through all stages of a pass; the caller says which stage is next.

    Whoever calls it knows, when this process dies, which stage of which row it was at.

    Args:
        fetch: the pass's first operator.
        stages: the stages of all its chains, in order.
        threads: for each stage, threads that torch and OpenCV may use.
        stage_seconds: a stage that takes longer ends the process.
    """

    def __init__(
        self, fetch: FetchOperator, stages: Sequence[Stage], threads: Sequence[int], stage_seconds: float
    ) -> None:
        self.fetch = fetch
        self.stages = stages
        self.threads = threads
        self.stage_seconds = stage_seconds
        self.ready: set[int] = set()
        self.shard: int | None = None
        self.rows: list[Row] = []
        self.row: Row = {}
        self.timings: Timings = {}

    def begin(self, shard: int, index: int) -> bool:
        """Turn to a row of a shard and read its image; False when it has failed already."""
        watch = StorageWatch()
        with watchdog(self.stage_seconds):
            if self.shard != shard:
                self.rows = self.fetch.rows(shard)
                self.shard = shard
            self.row = copy.deepcopy(self.rows[index])
            self.timings = {"fetch": timed_fetch([self.row], watch)}
        return bool(self.row["status"] == OK)

    def run_stage(self, number: int) -> bool:
        """Run a stage over the row; False when the row fails in it."""
        stage = self.stages[number]
        limit_threads(self.threads[number])
        with watchdog(self.stage_seconds):
            if number not in self.ready:
                stage.setup()
                self.ready.add(number)
            self.timings = add_timings(self.timings, run_stages([stage], [self.row]))
        return bool(self.row["status"] == OK)

    def take(self) -> bytes:
        """The row as the stages left it, packed, with what they took."""
        drop_transient([self.row])
        return pack_rows([self.row], self.timings)
