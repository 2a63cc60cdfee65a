"""The first operator of every pass: a shard's rows, what an earlier pass found, and the images' encoded bytes.

It reads and waits; torch is not imported, so that its workers start fast and stay small.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow.parquet as pq
from pyarrow import BufferReader

from pfit_ray import storage
from pfit_ray.layout import RunDirectory
from pfit_ray.manifest import fetch_images, read_manifest_shard
from pfit_ray.schema import OK, Row
from pfit_ray.tasks.base import fail
from pfit_ray.tasks.encode import array_from_bytes
from pfit_ray.tasks.packing import Packed, carry_mistakes, pack_rows


class Upstream(Protocol):
    """Adds what an earlier pass computed to a shard's rows."""

    def __call__(self, shard: int, rows: Sequence[Row]) -> None:
        """Add columns in place; rows that failed earlier are failed."""


class FetchOperator:
    """Reads a shard's manifest rows, what earlier passes know of them, and the images' encoded bytes."""

    def __init__(self, run: RunDirectory, image_set: str, upstream: Upstream | None) -> None:
        self.run = run
        self.image_set = image_set
        self.upstream = upstream

    @carry_mistakes
    def __call__(self, packed: Packed) -> Packed:
        """Fetch one shard."""
        shard = int(packed["shard"])
        rows = read_manifest_shard(self.run, self.image_set, shard)
        if self.upstream is not None:
            self.upstream(shard, rows)
        fetch_images(rows)
        return {"shard": shard, "rows": pack_rows(rows, {})}


@dataclass(frozen=True)
class SeedMaps:
    """Adds what pass 1 found: `keys` and `seed_cam`, the map that will walk."""

    run: RunDirectory
    column: str

    def __call__(self, shard: int, rows: Sequence[Row]) -> None:
        """Add one shard's seeds to its rows."""
        data = storage.read_bytes(self.run.rows("seeds", shard))
        table = pq.read_table(BufferReader(data), columns=["image_id", "keys", self.column])
        seeds = {seed["image_id"]: seed for seed in table.to_pylist()}
        for row in rows:
            if row["status"] != OK:
                continue
            seed = seeds.get(row["image_id"])
            if seed is None:
                fail(row, "seeds", "upstream", "pass seeds failed for this image; see its failures table")
            else:
                row["keys"] = seed["keys"]
                row["seed_cam"] = array_from_bytes(seed[self.column])
