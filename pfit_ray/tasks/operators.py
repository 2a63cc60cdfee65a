"""The operators that run stages: one for a pass's network, one that finishes and writes a shard.

Between operators a shard travels as one packed block of bytes. An operator is built where the pipeline is
declared and does its loading in the worker, at its first shard.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import torch

from pfit_ray.schema import Row
from pfit_ray.tasks.base import Stage, Timings, add_timings, run_stages
from pfit_ray.tasks.packing import Packed, carry_mistakes, pack_rows, unpack_rows
from pfit_ray.tasks.write import ShardWriter

TRANSIENT = ("image",)
"""Columns that the next operator makes again from `encoded`, cheaper than moving them."""


class StageOperator:
    """Runs a chain of stages over a shard's rows.

    Args:
        stages: the chain.
        threads: threads that torch and OpenCV may use in this worker.
    """

    def __init__(self, stages: Sequence[Stage], threads: int) -> None:
        self.stages = stages
        self.threads = threads
        self.ready = False

    @carry_mistakes
    def __call__(self, packed: Packed) -> Packed:
        """Run the chain over one shard."""
        shard, rows, timings = self.run(packed)
        return {"shard": shard, "rows": pack_rows(rows, timings)}

    def run(self, packed: Packed) -> tuple[int, list[Row], Timings]:
        """The shard's number, its rows after the chain, and what all stages so far took."""
        if not self.ready:
            torch.set_num_threads(self.threads)
            cv2.setNumThreads(self.threads)
            for stage in self.stages:
                stage.setup()
            self.ready = True
        rows, timings = unpack_rows(packed["rows"])
        for row in rows:
            timings = add_timings(timings, run_stages(self.stages, [row]))
            for name in TRANSIENT:
                row.pop(name, None)
        return int(packed["shard"]), rows, timings


class FinishOperator:
    """Runs the last chain of a pass, which ends with the encoding of the rows, and writes the shard."""

    def __init__(self, stages: Sequence[Stage], threads: int, writer: ShardWriter) -> None:
        self.chain = StageOperator(stages, threads)
        self.writer = writer

    @carry_mistakes
    def __call__(self, packed: Packed) -> dict[str, Any]:
        """Finish one shard; the result is a small summary."""
        shard, rows, timings = self.chain.run(packed)
        marker = self.writer.write(shard, rows, timings)
        return {"shard": shard, "ok": marker["ok"], "failed": marker["failed"]}
