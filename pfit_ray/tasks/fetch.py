"""The first operator of every pass: a shard's rows, what an earlier pass found, and the images' encoded bytes.

It reads and waits; torch is not imported, so that its workers start fast and stay small.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar, Protocol

from pfit_ray.constants import DONE, OK, SKIPPED, Row
from pfit_ray.data.image_bytes import fetch_images
from pfit_ray.errors import RowError
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.manifest import read_manifest_shard
from pfit_ray.rundir.markers import read_marker
from pfit_ray.rundir.published import read_failures, read_label, read_rows
from pfit_ray.tasks.base import StorageWatch, columns, fail
from pfit_ray.tasks.encode import array_from_bytes
from pfit_ray.tasks.packing import NODES, Packed, Where, carry_mistakes, pack_rows, visited

SOURCE_COLUMNS = ("image_id", "uri", "keys", "encoded")
"""Columns of the rows that `FetchOperator` makes, besides those of an earlier pass."""

_PLACE = ("label_url", "label_file", "label_offset", "label_size")


class Upstream(Protocol):
    """Adds what an earlier pass computed to a shard's rows."""

    @property
    def adds(self) -> tuple[str, ...]:
        """The columns that it adds."""

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
        work: see `PassPlan.work`; while it lasts, the manifest does not change.

    The pipeline may set `where`, so that the results say on which node they were made.
    """

    where: Where | None = None

    def __init__(
        self,
        run: RunDirectory,
        image_set: str,
        upstream: Upstream | None,
        finished: Upstream | None = None,
        threads: int = 1,
        work: str = "",
    ) -> None:
        self.run = run
        self.image_set = image_set
        self.upstream = upstream
        self.finished = finished
        self.threads = threads
        self.work = work

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
        rows = read_manifest_shard(self.run, self.image_set, shard, self.work)
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
    """Replaces the rows that a pass has finished by their stored results, and counts the tries of the others.

    A finished row whose label map cannot be read any more is done again.

    Args:
        run: the run directory.
        pass_name: the pass.
        work: see `PassPlan.work`; what the same work has published already, before its worker died, is no further try.
    """

    run: RunDirectory
    pass_name: str
    work: str = ""

    adds: ClassVar[tuple[str, ...]] = ()

    def __call__(self, shard: int, rows: Sequence[Row]) -> None:
        """Mark one shard's finished rows as done."""
        marker = read_marker(self.run.url(self.pass_name, "done"), shard)
        if marker is None:
            return
        further = 0 if self.work and marker.get("work") == self.work else 1
        stored = {row["image_id"]: row for row in read_rows(self.run, self.pass_name, shard)}
        failed = {row["image_id"]: row for row in read_failures(self.run, self.pass_name, shard)}
        for row in rows:
            image_id = row["image_id"]
            if image_id in failed and image_id not in stored:
                row["attempt"] = failed[image_id]["attempt"] + further
            elif image_id in stored:
                with suppress(RowError):
                    label = read_label(stored[image_id])
                    kept = {name: value for name, value in stored[image_id].items() if name not in _PLACE}
                    row.clear()
                    row.update(kept, status=DONE, label=label)


@dataclass(frozen=True)
class SeedMaps:
    """Adds what pass 1 found: `keys`, `seed_cam`, which is the map that will walk, and PNG bytes `regions_NAME`.

    Pass 1 does not change while this pass, whose `work` it is, goes on.
    """

    run: RunDirectory
    column: str
    regions: tuple[str, ...] = ()
    work: str = ""

    @property
    def adds(self) -> tuple[str, ...]:
        """The columns that it adds."""
        return ("keys", "seed_cam", *columns("regions", self.regions))

    def __call__(self, shard: int, rows: Sequence[Row]) -> None:
        """Add one shard's seeds to its rows."""
        regions = columns("regions", self.regions)
        found = read_rows(self.run, "seeds", shard, ["image_id", "keys", self.column, *regions], settled=self.work)
        seeds = {seed["image_id"]: seed for seed in found}
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
        rows = read_failures(self.run, "seeds", shard, self.work)
        return {row["image_id"]: row["message"] for row in rows if row["reason"] == SKIPPED}
