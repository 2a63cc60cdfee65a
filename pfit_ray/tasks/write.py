"""Publish a finished shard: label maps, good rows, failed rows, and last the marker that names them."""

import hashlib
import io
import json
import platform
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from llvmlite import binding

from pfit_ray import storage
from pfit_ray.constants import DONE, OK, PUBLISHED_SOURCES, SKIPPED, Row
from pfit_ray.data.label_shards import pack_shard
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.tasks.base import StorageWatch, Timings
from pfit_ray.tasks.results import FAILURE_SCHEMA, result_schema, shard_sums

_DIGITS = 12


class ShardWriter:
    """Publishes the shards of one pass; publishing a shard again replaces it as a whole.

    Files are named by their content, and the marker, which is written last and in one piece, says which belong
    together: whoever goes by it never sees the label maps of one try with the rows of another.

    Args:
        run: the run directory.
        pass_name: `seeds`, `labels` or `predict`.
        sources: names of the region sources.
        work: id of the work that this writer belongs to, see `PassPlan.work`.
        replaces: whether finished shards are published again: what their markers named before is then removed.

    The pipeline may set `report`, which gets the pass and the timings of each shard once it is published.
    """

    report: Callable[[str, Timings], None] | None = None

    def __init__(
        self,
        run: RunDirectory,
        pass_name: str,
        sources: Sequence[str] = PUBLISHED_SOURCES,
        *,
        work: str = "",
        replaces: bool = False,
    ) -> None:
        self.run = run
        self.pass_name = pass_name
        self.sources = tuple(sources)
        self.work = work
        self.replaces = replaces

    def write(
        self, shard: int, rows: Sequence[Row], timings: Timings, nodes: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Publish one shard of encoded rows, each file atomically, the marker last, and return the marker.

        Args:
            shard: its number.
            rows: its rows.
            timings: what the stages took.
            nodes: id of the node that each operator ran on, for the marker.
        """
        watch = StorageWatch()
        good = [row for row in rows if row["status"] in (OK, DONE)]
        failed = [{"attempt": 1, **row, "pass": self.pass_name} for row in rows if row["status"] not in (OK, DONE)]
        before = self.run.published(self.pass_name, shard) if self.replaces else None
        tar, places = pack_shard((row["image_id"], row["label"]) for row in good)
        for row in good:
            row["label_file"] = _named(shard, tar, "tar")
            row["label_offset"], row["label_size"] = places[row["image_id"]]
        contents = {"labels": (tar, "tar")}
        contents["rows"] = _parquet(good, result_schema(self.pass_name, self.sources)), "parquet"
        if failed:
            contents["failures"] = _parquet(failed, FAILURE_SCHEMA), "parquet"
        names = {kind: _named(shard, *content) for kind, content in contents.items()}
        for kind, (data, _) in contents.items():
            storage.write_bytes(storage.join(self.run.folder(self.pass_name, kind), names[kind]), data)
        timings["write"] = watch.timing(len(rows), 0, sum(len(data) for data, _ in contents.values()))
        marker = {
            "shard": shard,
            "ok": len(good),
            "failed": len(failed),
            "reasons": dict(Counter(row["reason"] for row in failed)),
            "files": {kind: [names[kind], len(data)] for kind, (data, _) in contents.items()},
            "work": self.work,
            "finished": time.time(),
            "stages": timings,
            "nodes": dict(nodes or {}),
            "processor": processor(),
            "sums": shard_sums(self.pass_name, good),
        }
        self.run.write_json(marker, self.pass_name, "done", f"{shard:05d}.json")
        if before is not None:
            now = {file.url for file in self.run.files(self.pass_name, shard, marker) if file}
            for url in sorted({file.url for file in before if file} - now):
                storage.remove(url)
        if self.report is not None:
            self.report(self.pass_name, timings)
        return marker


def summary(marker: Mapping[str, Any]) -> dict[str, Any]:
    """What the driver learns of a published shard.

    Returns:
        `shard`, `ok`, `failed` (`skipped` images among them), `skipped`, `reasons`, `stages` and, as JSON, the whole
        `marker`.
    """
    told = {name: marker[name] for name in ("shard", "ok", "failed", "reasons", "stages")}
    return {**told, "skipped": marker["reasons"].get(SKIPPED, 0), "marker": json.dumps(marker)}


@cache
def processor() -> str:
    """What this machine's compiled code is made for: results of the merging network depend on it in their last bits."""
    features = binding.get_host_cpu_features()
    vectors = next((name for name in ("avx512f", "avx2", "avx", "sve", "neon") if features.get(name)), "scalar")
    return f"{platform.machine()} {binding.get_host_cpu_name()} {vectors}"


def _named(shard: int, data: bytes, suffix: str) -> str:
    """Name of a shard's file: equal content has equal names, another try's other content never the same."""
    return f"{shard:05d}-{hashlib.sha256(data).hexdigest()[:_DIGITS]}.{suffix}"


def _parquet(rows: Sequence[Row], schema: pa.Schema) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), buffer, compression="zstd")
    return buffer.getvalue()
