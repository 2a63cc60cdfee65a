"""The markers of a pass's finished shards: a JSON file for each, and Parquet parts that hold those of 1,024 shards.

Workers write the JSON files. The driver moves the markers of 1,024 shards that are all finished into a part, so that a
large run is read by columns and few objects lie about. Where a shard has a file of its own, the file is the newer one.
An empty file says that the shard is to be done again.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pfit_ray import storage
from pfit_ray.constants import SKIPPED
from pfit_ray.storage.threads import prefetch

SHARDS_PER_PART = 1024
FILE_KINDS = ("rows", "labels", "failures")
"""Kinds of files that a marker names."""

_SCHEMA = pa.schema(
    [
        ("shard", pa.int64()),
        ("ok", pa.int32()),
        ("failed", pa.int32()),
        ("skipped", pa.int32()),
        ("finished", pa.float64()),
        ("processor", pa.string()),
        ("reasons", pa.string()),
        ("stages", pa.string()),
        *((kind, pa.string()) for kind in FILE_KINDS),
        ("marker", pa.string()),
    ]
)
"""Of each marker what is read of many at once, and in the column `marker` the whole of it, as JSON; so are `reasons`
and `stages`. `rows`, `labels` and `failures` are file names, null where the marker names none."""

_READERS = 32
"""JSON files that are read at the same time."""
_PARTS = 4
"""Parts that are read at the same time."""


def file_name(shard: int) -> str:
    """Name of a shard's own file."""
    return f"{shard:05d}.json"


def part_name(part: int) -> str:
    """Name of a part; it sorts behind the files, so that a listing sees each marker that is moved meanwhile."""
    return f"part-{part:05d}.parquet"


class Markers:
    """The markers of one pass, as a listing of their folder found them; they may come and go meanwhile.

    Args:
        folder: the folder `done` of a pass.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.parts: dict[int, storage.Entry] = {}
        self.own: dict[int, dict[int, storage.Entry]] = {}
        """Files of single shards, by part; those without bytes are not finished."""
        for entry in storage.list_entries(folder, threads=0):
            stem, _, suffix = entry.url.rpartition("/")[2].rpartition(".")
            if suffix == "json" and stem.isdigit():
                self.own.setdefault(int(stem) // SHARDS_PER_PART, {})[int(stem)] = entry
            elif suffix == "parquet" and stem.startswith("part-"):
                self.parts[int(stem.removeprefix("part-"))] = entry

    @property
    def singles(self) -> dict[int, storage.Entry]:
        """Files of single shards, ascending."""
        return dict(sorted(item for files in self.own.values() for item in files.items()))

    def numbers(self) -> NDArray[np.int64]:
        """The finished shards, ascending; files of single shards are not read."""
        moved = [table["shard"].to_numpy() for table in prefetch(self._read, sorted(self.parts), _PARTS, 2 * _PARTS)]
        singles = self.singles
        others = np.setdiff1d(np.concatenate([*moved, np.zeros(0, np.int64)]), list(singles))
        own = np.array([shard for shard, entry in singles.items() if entry.size], np.int64)
        return np.union1d(others, own).astype(np.int64)

    def versions(self, part: int) -> dict[int, str]:
        """The shards whose markers are in a part alone, and what tells each marker from a later one."""
        table = self._read(part)
        told = zip(table["shard"].to_pylist(), table["finished"].to_pylist(), strict=True)
        return {shard: f"finished {at}" for shard, at in told if shard not in self.own.get(part, {})}

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Some columns of all markers, ascending by shard, at most 1,024 of them at a time."""
        parts = sorted({*self.parts, *self.own})
        read = prefetch(lambda part: self._table(part, list(self.own.get(part, {}))), parts, _PARTS, 2 * _PARTS)
        return (table.select(list(columns)) for table in read)

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Shards and their markers, ascending."""
        for table in self.tables(["shard", "marker"]):
            for shard, text in zip(table["shard"].to_pylist(), table["marker"].to_pylist(), strict=True):
                yield shard, json.loads(text)

    def is_whole(self, part: int) -> bool:
        """Whether all shards of a part are finished."""
        own = self.own.get(part, {})
        moved = self._read(part)["shard"].to_pylist() if part in self.parts else []
        finished = sum(bool(entry.size) for entry in own.values()) + sum(shard not in own for shard in moved)
        return finished == SHARDS_PER_PART

    def compact(self, part: int, fresh: Mapping[int, bytes] | None = None) -> None:
        """Move the markers of a part's shards that have files of their own into the part.

        Killed between any two writes, it leaves each marker in the part, or in its file, or the same one in both.

        Args:
            part: its number.
            fresh: bytes of files that may have come since the listing; they are not read.
        """
        shards = sorted({*self.own.get(part, {}), *(fresh or ())})
        table = self._table(part, shards, fresh or {})
        url = storage.join(self.folder, part_name(part))
        if len(table):
            storage.write_bytes(url, _encoded(table))
        else:
            storage.remove(url)
        storage.remove_all([storage.join(self.folder, file_name(shard)) for shard in shards])
        self.parts[part] = storage.Entry(url, None, None)
        self.own.pop(part, None)

    def drop(self, shards: Sequence[int]) -> None:
        """Forget markers, so that their shards are done again; the listing does not notice."""
        for shard in shards:
            url = storage.join(self.folder, file_name(shard))
            if shard // SHARDS_PER_PART in self.parts:
                storage.write_bytes(url, b"")
            else:
                storage.remove(url)

    def _table(self, part: int, shards: Sequence[int], known: Mapping[int, bytes] | None = None) -> pa.Table:
        """The markers of a part's shards; `shards` are those that had files of their own."""
        # The part is read after the files: what has been moved into it meanwhile is not missed.
        unknown = [shard for shard in shards if shard not in (known or {})]
        texts: dict[int, bytes | None] = {**(known or {})}
        texts.update(zip(unknown, prefetch(self._text, unknown, _READERS, 4 * _READERS), strict=True))
        own = {shard: text for shard, text in texts.items() if text is not None}
        table = self._read(part) if part in self.parts or len(own) < len(texts) else _SCHEMA.empty_table()
        if not own:
            return table
        others = table.filter(pc.invert(pc.is_in(table["shard"], pa.array(list(own), pa.int64()))))
        return pa.concat_tables([others, _as_table(own)]).sort_by("shard")

    def _read(self, part: int) -> pa.Table:
        try:
            return _decoded(storage.read_bytes(storage.join(self.folder, part_name(part))))
        except FileNotFoundError:
            return _SCHEMA.empty_table()

    def _text(self, shard: int) -> bytes | None:
        try:
            return storage.read_bytes(storage.join(self.folder, file_name(shard)))
        except FileNotFoundError:
            return None


def read_marker(folder: str, shard: int, settled: str = "") -> dict[str, Any] | None:
    """The marker of one shard; None if it is not finished.

    Args:
        folder: the folder `done` of a pass.
        shard: the shard.
        settled: names a time in which markers that are in parts do not change, such as a later pass: a part is read
            once in that time, and files of shards that are in it are not looked for.
    """
    if settled and (found := _in_part(_settled_part(folder, shard // SHARDS_PER_PART, settled), shard)):
        return found
    try:
        text = storage.read_bytes(storage.join(folder, file_name(shard)))
        return json.loads(text) if text else None
    except FileNotFoundError:
        pass
    entry = next(storage.list_entries(storage.join(folder, part_name(shard // SHARDS_PER_PART)), threads=0), None)
    return None if entry is None else _in_part(_part(entry), shard)


def _in_part(table: pa.Table | None, shard: int) -> dict[str, Any] | None:
    place = -1 if table is None else pc.index(table["shard"], shard).as_py()
    return None if table is None or place < 0 else json.loads(table["marker"][place].as_py())


@lru_cache(maxsize=4)
def _part(entry: storage.Entry) -> pa.Table:
    """A part as it was written at one time; whoever looks for one shard in it looks for the next."""
    return _decoded(storage.read_bytes(entry.url)).select(["shard", "marker"])


@lru_cache(maxsize=4)
def _settled_part(folder: str, part: int, settled: str) -> pa.Table | None:
    try:
        return _decoded(storage.read_bytes(storage.join(folder, part_name(part)))).select(["shard", "marker"])
    except FileNotFoundError:
        return None


def _decoded(data: bytes) -> pa.Table:
    with pq.ParquetFile(io.BytesIO(data)) as file:
        return file.read(use_threads=False)


def _encoded(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _as_table(texts: Mapping[int, bytes]) -> pa.Table:
    """The table of some markers; empty files are left out."""
    rows = []
    for shard, text in texts.items():
        if not text:
            continue
        marker = json.loads(text)
        reasons = marker.get("reasons", {})
        row = {name: marker.get(name) for name in ("ok", "failed", "finished", "processor")}
        row |= {"shard": shard, "skipped": reasons.get(SKIPPED, 0), "reasons": json.dumps(reasons)}
        row |= {kind: file[0] for kind, file in (marker.get("files") or {}).items()}
        rows.append({**row, "stages": json.dumps(marker.get("stages", {})), "marker": json.dumps(marker)})
    return pa.Table.from_pylist(rows, schema=_SCHEMA)
