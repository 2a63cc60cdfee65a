"""Write a finished shard: label maps, good rows, failed rows, and last the marker that says so."""

import io
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pfit_ray import storage
from pfit_ray.constants import DONE, OK, PUBLISHED_SOURCES, SKIPPED, Row
from pfit_ray.data.label_shards import pack_shard
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.tasks.base import StorageWatch, Timings
from pfit_ray.tasks.results import FAILURE_SCHEMA, result_schema


class ShardWriter:
    """Writes the shards of one pass; writing a shard again replaces it.

    Args:
        run: the run directory.
        pass_name: `seeds`, `labels` or `predict`.
        sources: names of the region sources.

    Whoever runs the pass may set `report`, which is then told the pass and the timings of each shard once it is
    published.
    """

    report: Callable[[str, Timings], None] | None = None

    def __init__(self, run: RunDirectory, pass_name: str, sources: Sequence[str] = PUBLISHED_SOURCES) -> None:
        self.run = run
        self.pass_name = pass_name
        self.sources = tuple(sources)

    def write(
        self, shard: int, rows: Sequence[Row], timings: Timings, nodes: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Write one shard of encoded rows, each file atomically, the marker last, and return the marker.

        Args:
            shard: its number.
            rows: its rows.
            timings: what the stages took.
            nodes: id of the node that each operator ran on, for the marker.
        """
        watch = StorageWatch()
        good = [row for row in rows if row["status"] in (OK, DONE)]
        failed = [{"attempt": 1, **row, "pass": self.pass_name} for row in rows if row["status"] not in (OK, DONE)]
        if any(row["status"] == DONE for row in good):  # its files do not change all at once: unfinished until then
            storage.remove(self.run.marker(self.pass_name, shard))
        tar, places = pack_shard((row["image_id"], row["label"]) for row in good)
        for row in good:
            row["label_offset"], row["label_size"] = places[row["image_id"]]
        files = {
            self.run.labels(self.pass_name, shard): tar,
            self.run.rows(self.pass_name, shard): _parquet(good, result_schema(self.pass_name, self.sources)),
        }
        if failed:
            files[self.run.failures(self.pass_name, shard)] = _parquet(failed, FAILURE_SCHEMA)
        else:
            storage.remove(self.run.failures(self.pass_name, shard))
        for url, data in files.items():
            storage.write_bytes(url, data)
        timings["write"] = watch.timing(len(rows), 0, sum(map(len, files.values())))
        marker = {
            "shard": shard,
            "ok": len(good),
            "failed": len(failed),
            "reasons": dict(Counter(row["reason"] for row in failed)),
            "finished": time.time(),
            "stages": timings,
            "nodes": dict(nodes or {}),
        }
        self.run.write_json(marker, self.pass_name, "done", f"{shard:05d}.json")
        if self.report is not None:
            self.report(self.pass_name, timings)
        return marker


def summary(marker: dict[str, Any]) -> dict[str, Any]:
    """What the driver is told of a shard, see `read_summary`; a row of a Ray Dataset, so that dicts are JSON."""
    numbers = {name: int(marker[name]) for name in ("shard", "ok", "failed")}
    texts = {name: json.dumps(marker[name]) for name in ("reasons", "stages")}
    return {**numbers, "skipped": int(marker["reasons"].get(SKIPPED, 0)), **texts}


def read_summary(row: Mapping[str, Any]) -> dict[str, Any]:
    """`shard`, `ok`, `failed` (`skipped` images among them), `skipped`, `reasons` and `stages` of a published shard."""
    numbers = {name: int(row[name]) for name in ("shard", "ok", "failed", "skipped")}
    return {**numbers, **{name: json.loads(row[name]) for name in ("reasons", "stages")}}


def _parquet(rows: Sequence[Row], schema: pa.Schema) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), buffer, compression="zstd")
    return buffer.getvalue()
