"""The first operator of every pass: a shard's rows, what an earlier pass found, and the images' encoded bytes.

It reads and waits; torch is not imported, so that its workers start fast and stay small.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow.parquet as pq
from pyarrow import BufferReader

from pfit_ray import storage
from pfit_ray.constants import DONE, OK, SKIPPED, Row
from pfit_ray.data.image_bytes import fetch_images
from pfit_ray.data.label_shards import read_member
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.manifest import read_manifest_shard
from pfit_ray.tasks.base import StorageWatch, fail
from pfit_ray.tasks.encode import array_from_bytes
from pfit_ray.tasks.packing import NODES, Packed, Where, carry_mistakes, pack_rows, visited


class Upstream(Protocol):
    """Adds what an earlier pass computed to a shard's rows."""

    def __call__(self, shard: int, rows: Sequence[Row]) -> None:
        """Add columns in place; rows that failed earlier are failed."""


class FetchOperator:
    """Reads a shard's manifest rows, what earlier passes know of them, and the images' encoded bytes.

    Args:
        run: the run directory.
        image_set: the manifest.
        upstream: adds what an earlier pass computed.
        finished: for a shard that is tried again: gives it the good rows that it has already.
        threads: images that are read at the same time.

    Whoever runs the pass may set `where`, so that the results say on which node they were made.
    """

    where: Where | None = None

    def __init__(
        self,
        run: RunDirectory,
        image_set: str,
        upstream: Upstream | None,
        finished: Upstream | None = None,
        threads: int = 1,
    ) -> None:
        self.run = run
        self.image_set = image_set
        self.upstream = upstream
        self.finished = finished
        self.threads = threads

    @carry_mistakes
    def __call__(self, packed: Packed) -> Packed:
        """Fetch one shard."""
        shard, watch = int(packed["shard"]), StorageWatch()
        rows = self.rows(shard)
        nodes = json.dumps(visited(packed, "fetch", self.where))
        return {
            "shard": shard,
            "rows": pack_rows(rows, {"fetch": timed_fetch(rows, watch, self.threads)}),
            NODES: nodes,
        }

    def rows(self, shard: int) -> list[Row]:
        """A shard's rows without the images."""
        rows = read_manifest_shard(self.run, self.image_set, shard)
        if self.upstream is not None:
            self.upstream(shard, rows)
        if self.finished is not None:
            self.finished(shard, rows)
        return rows


def timed_fetch(rows: Sequence[Row], watch: StorageWatch, threads: int = 1) -> dict[str, float]:
    """Read the images of good rows, see `fetch_images`, and tell what that took since the watch was started."""
    good = sum(row["status"] == OK for row in rows)
    fetch_images(rows, threads)
    read = [len(row["encoded"]) for row in rows if row["status"] == OK]
    return watch.timing(len(rows), good - len(read), sum(read))


@dataclass(frozen=True)
class FinishedRows:
    """Replaces the rows that a pass has finished by their stored results, and counts the tries of the others."""

    run: RunDirectory
    pass_name: str

    def __call__(self, shard: int, rows: Sequence[Row]) -> None:
        """Mark one shard's finished rows as done."""
        stored = {row["image_id"]: row for row in _stored_rows(self.run.rows(self.pass_name, shard))}
        failed = {row["image_id"]: row for row in _stored_rows(self.run.failures(self.pass_name, shard))}
        labels = self.run.labels(self.pass_name, shard)
        for row in rows:
            image_id = row["image_id"]
            if image_id in failed:
                row["attempt"] = failed[image_id]["attempt"] + 1
            elif image_id in stored:
                place = [stored[image_id].pop(name) for name in ("label_offset", "label_size")]
                row.clear()
                row.update(stored[image_id], status=DONE, label=read_member(labels, *place))


@dataclass(frozen=True)
class SeedMaps:
    """Adds what pass 1 found: `keys`, `seed_cam`, which is the map that will walk, and PNG bytes `regions_NAME`."""

    run: RunDirectory
    column: str
    regions: tuple[str, ...] = ()

    def __call__(self, shard: int, rows: Sequence[Row]) -> None:
        """Add one shard's seeds to its rows."""
        data = storage.read_bytes(self.run.rows("seeds", shard))
        regions = [f"regions_{source}" for source in self.regions]
        table = pq.read_table(BufferReader(data), columns=["image_id", "keys", self.column, *regions])
        seeds = {seed["image_id"]: seed for seed in table.to_pylist()}
        skipped = self._skipped(shard) if len(seeds) < len(rows) else {}
        for row in rows:
            if row["status"] != OK:
                continue
            seed = seeds.get(row["image_id"])
            if row["image_id"] in skipped:
                fail(row, "seeds", SKIPPED, skipped[row["image_id"]])
            elif seed is None:
                fail(row, "seeds", "upstream", "pass seeds failed for this image; see its failures table")
            else:
                row["keys"] = seed["keys"]
                row["seed_cam"] = array_from_bytes(seed[self.column])
                row.update({name: seed[name] for name in regions})

    def _skipped(self, shard: int) -> dict[str, str]:
        """Messages of the images that pass 1 was told to skip."""
        rows = _stored_rows(self.run.failures("seeds", shard))
        return {row["image_id"]: row["message"] for row in rows if row["reason"] == SKIPPED}


def _stored_rows(url: str) -> list[Row]:
    return pq.read_table(BufferReader(storage.read_bytes(url))).to_pylist() if storage.exists(url) else []
