"""The operators that run stages: one for a pass's network, one that finishes and writes a shard, one that does both.

Between operators a shard travels as one packed block of bytes. An operator is built where the pipeline is
declared and does its loading in the worker, at its first shard.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import cv2

from pfit_ray.constants import OK, Row
from pfit_ray.data.images import decode_image, image_size
from pfit_ray.tasks.base import Stage, Timings, add_timings, run_stages
from pfit_ray.tasks.packing import NODES, Packed, Where, carry_mistakes, pack_rows, unpack_rows, visited
from pfit_ray.tasks.write import ShardWriter, summary

TRANSIENT = ("image", "levels")
"""Columns that do not leave an operator: the next makes the image again from `encoded`, cheaper than moving it, and has
no use for feature maps."""

GPU_BATCH = 8
"""Images that go through a GPU together where the config does not say."""


class DecodeStage(Stage):
    """Stage: bytes become pixels. Adds `image` (uint8 RGB (H, W, 3)), `height` and `width`."""

    name = "decode"
    reads = ("encoded",)
    adds = ("image", "height", "width")

    def __init__(self, max_pixels: int) -> None:
        self.max_pixels = max_pixels

    def process(self, row: Row) -> None:
        """Decode one image."""
        row["image"] = decode_image(row["encoded"], self.max_pixels)
        row["height"], row["width"] = row["image"].shape[:2]


class StageOperator:
    """Runs a chain of stages over a shard's rows.

    Args:
        stages: the chain.
        threads: threads that torch and OpenCV may use in this worker.
        batch_size: images of one shape that are decoded together and that a network takes at once; None takes 1 on a
            CPU and 8 on a GPU.
        stage_seconds: a stage that takes longer for a batch ends its worker.
        decode: decodes the images that another worker has decoded before; their time counts, they do not.

    The pipeline may set `where`, see `FetchOperator`.
    """

    where: Where | None = None

    def __init__(
        self,
        stages: Sequence[Stage],
        threads: int,
        batch_size: int | None = 1,
        stage_seconds: float | None = None,
        decode: DecodeStage | None = None,
    ) -> None:
        self.stages = stages
        self.threads = threads
        self.batch_size = batch_size
        self.stage_seconds = stage_seconds
        self.decode = decode
        self.ready = False

    @carry_mistakes
    def __call__(self, packed: Packed) -> Packed:
        """Run the chain over one shard."""
        rows, timings = unpack_rows(packed["rows"])
        for batch in self.batches(rows):
            timings = add_timings(timings, self.run(batch))
            drop_transient(batch)
        nodes = json.dumps(visited(packed, "network", self.where))
        return {"shard": int(packed["shard"]), "rows": pack_rows(rows, timings), NODES: nodes}

    def prepare(self) -> None:
        """Let the stages load what they need, once; the first batch does it where nobody has done it before."""
        limit_threads(self.threads)  # each time: another chain of this process may have other threads
        if self.ready:
            return
        for stage in self.stages:
            stage.setup()
        self.ready = True

    def run(self, batch: Sequence[Row]) -> Timings:
        """Take rows through the chain, in place, and tell what it took."""
        self.prepare()
        again: Timings = {}
        if self.decode is not None:
            without = [row for row in batch if row["status"] == OK and "image" not in row]
            again = run_stages([self.decode], without, self.stage_seconds)
            for timing in again.values():
                timing["images"] = 0  # the worker before has counted them
        return add_timings(again, run_stages(self.stages, batch, self.stage_seconds))

    def batches(self, rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
        """The rows in groups of images of one shape; rows of unknown shape come alone."""
        size = self.batch_size or (GPU_BATCH if _has_gpu() else 1)
        groups: dict[tuple[int, int], list[Row]] = defaultdict(list)
        for row in rows:
            known = size > 1 and row["status"] == OK
            shape = image_size(row["encoded"]) if known else None
            if shape is None:
                yield [row]
            else:
                groups[shape].append(row)
        for group in groups.values():
            for start in range(0, len(group), size):
                yield group[start : start + size]


def drop_transient(rows: Sequence[Row]) -> None:
    """Take off the columns that do not travel to the next worker."""
    for row in rows:
        for name in TRANSIENT:
            row.pop(name, None)


def limit_threads(threads: int) -> None:
    """Threads that OpenCV and, where a stage has imported it, torch may use in this process."""
    cv2.setNumThreads(threads)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)


def _has_gpu() -> bool:
    import torch  # workers without networks do without it: they start faster and are smaller

    return torch.cuda.is_available()


class FinishOperator:
    """Runs the last chain of a pass, which ends with the encoding of the rows, and writes the shard."""

    def __init__(
        self,
        stages: Sequence[Stage],
        threads: int,
        writer: ShardWriter,
        stage_seconds: float | None = None,
        decode: DecodeStage | None = None,
    ) -> None:
        self.chain = StageOperator(stages, threads, stage_seconds=stage_seconds, decode=decode)
        self.writer = writer

    @carry_mistakes
    def __call__(self, packed: Packed) -> dict[str, Any]:
        """Finish one shard; the result is a small summary."""
        rows, timings = unpack_rows(packed["rows"])
        for row in rows:
            timings = add_timings(timings, self.chain.run([row]))
        return self.write(packed, rows, timings)

    def write(self, packed: Packed, rows: list[Row], timings: Timings) -> dict[str, Any]:
        """Write a shard's encoded rows; `packed` tells which shard it is and where it has been."""
        nodes = visited(packed, "cpu", self.chain.where)
        return summary(self.writer.write(int(packed["shard"]), rows, timings, nodes))


class FusedOperator:
    """Takes images through the network and the rest in one process: each is decoded once, and nothing travels.

    If both run on CPUs, no core waits for the other kind of work.
    """

    def __init__(self, network: StageOperator, finish: FinishOperator) -> None:
        self.network = network
        self.rest = finish

    @carry_mistakes
    def __call__(self, packed: Packed) -> dict[str, Any]:
        """Take one shard through both chains; the result is a small summary."""
        rows, timings = unpack_rows(packed["rows"])
        for batch in self.network.batches(rows):
            timings = add_timings(timings, self.network.run(batch))
            for row in batch:
                timings = add_timings(timings, self.rest.chain.run([row]))
        nodes = json.dumps(visited(packed, "network", self.network.where))
        return self.rest.write({**packed, NODES: nodes}, rows, timings)
