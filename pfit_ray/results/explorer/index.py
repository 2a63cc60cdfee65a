"""What the explorer holds in memory of each image: a few numbers, never maps or pictures."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pfit_ray.errors import UserError
from pfit_ray.rundir.directory import IMAGE_SET, RunDirectory, ShardFiles
from pfit_ray.rundir.manifest import read_manifest_columns
from pfit_ray.rundir.published import read_published
from pfit_ray.storage.ranges import read_columns
from pfit_ray.storage.threads import prefetch
from pfit_ray.tasks.results import SCORES

PENDING, OK, FAILED = range(3)
STATUS_NAMES = ("unfinished", "ok", "failed")
"""Names of the codes `PENDING`, `OK` and `FAILED`."""

SCORE_NAMES = tuple(f"{name}.{score}" for name, scores in SCORES.items() for score in scores)
"""Scores that images are sorted and filtered by: pass and column."""

_SOURCE = "source"
"""Stands before the passes: images that failed when they were listed."""
_READERS = 8
_AHEAD = 64


class _ShardTable(NamedTuple):
    """The small columns of one finished shard of a pass; `problem` says why it could not be read."""

    shard: int
    rows: pa.Table | None = None
    failures: pa.Table | None = None
    problem: str | None = None


@dataclass
class _PassColumns:
    """One pass, for every image: its status, the reason of its failure, and the shards that have been read.

    `parts` are the versions of the parts of markers whose shards are known.
    """

    status: NDArray[np.int8]
    reason: NDArray[np.int16]
    shards: dict[int, str | None] = field(default_factory=dict)
    parts: dict[int, str | None] = field(default_factory=dict)


class Index:
    """The images of a run in the order of its manifests, and what its passes say of them.

    One thread calls `refresh`; others may read meanwhile and see what there is.

    Args:
        run: the run directory.
        n_classes: number of foreground classes.
    """

    def __init__(self, run: RunDirectory, n_classes: int) -> None:
        self.run = run
        self.version = 0
        """Grows whenever anything changes."""
        self.done = self.todo = 0
        """Shards that have been read, and that there are to be read, of the last `refresh`."""
        self.problems: dict[tuple[str, int], str] = {}
        self.reasons: list[str] = []
        self._lock = threading.Lock()
        self._numbers: dict[str, NDArray[np.int32]] = {}  # by image set: row of the index to row of the manifest
        self._rows: dict[str, NDArray[np.int32]] = {}  # and back
        self._shard_sizes: dict[str, int] = {}
        self._key_bytes = n_classes // 8 + 1
        self._read_manifests()
        count = len(self.ids)
        self.scores = {name: np.full(count, np.nan, np.float32) for name in SCORE_NAMES}
        self._passes = {
            name: _PassColumns(np.zeros(count, np.int8), np.full(count, -1, np.int16))
            for name in IMAGE_SET
        }  # fmt: skip

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, image_id: str) -> int | None:
        """Number of an image in the index."""
        found = pc.index(self.ids, image_id).as_py()
        return None if found < 0 else int(found)

    def rows(self, image_ids: Sequence[str]) -> NDArray[np.int32]:
        """Numbers of some images in the index; -1 for those that are not in it."""
        found = pc.index_in(pa.array(image_ids, pa.large_string()), self.ids)
        return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), np.int32)

    def shard(self, pass_name: str, row: int) -> int | None:
        """The shard of a pass's image set that an image is in."""
        image_set = IMAGE_SET[pass_name]
        if image_set not in self._numbers:
            return None
        number = int(self._numbers[image_set][row])
        return None if number < 0 else number // self._shard_sizes[image_set]

    def keys(self, row: int) -> list[int]:
        """Class ids of an image's label, or of its prediction where it has none, ascending."""
        bits = np.unpackbits(self._keys[row], bitorder="little")
        return [int(key) for key in np.flatnonzero(bits)]

    def has_class(self, class_id: int) -> NDArray[np.bool_]:
        """Which images have a class; 0: which have none and a result or label."""
        if class_id == 0:
            return ~self._keys.any(axis=1) & (self._labelled | (self.statuses() == OK))
        if class_id >> 3 >= self._key_bytes:
            return np.zeros(len(self), np.bool_)
        return (self._keys[:, class_id >> 3] & (1 << (class_id & 7))) != 0

    def statuses(self) -> NDArray[np.int8]:
        """Of each image: failed where any pass has failed, else ok where any pass is, else unfinished."""
        result = np.zeros(len(self), np.int8)
        for columns in self._passes.values():
            np.maximum(result, columns.status, out=result)
        result[self._listed_reason >= 0] = FAILED
        return result

    def reason_codes(self) -> NDArray[np.int16]:
        """Of each image the place in `reasons` of what failed first, else -1."""
        result = self._listed_reason.copy()
        for columns in self._passes.values():
            np.copyto(result, columns.reason, where=(result < 0) & (columns.reason >= 0))
        return result

    def status_of(self, pass_name: str, row: int) -> int:
        """Status of one image in one pass."""
        return int(self._passes[pass_name].status[row])

    def refresh(self) -> None:
        """Read the shards that are new or have been written again since the last time."""
        with self._lock:
            work = {name: self._changed_shards(name) for name in IMAGE_SET if IMAGE_SET[name] in self._numbers}
            self.done, self.todo = 0, sum(len(shards) for shards, _ in work.values())
            for name, (versions, parts) in work.items():
                for table in self._read_shards(name, list(versions)):
                    self._take(name, table)
                    self._passes[name].shards[table.shard] = versions[table.shard]
                    self.done += 1
                    self.version += 1
                self._passes[name].parts = parts

    def _read_manifests(self) -> None:
        ids: pa.Array = pa.array([], pa.large_string())
        keys, ground_truth, reasons = [], [], []
        for image_set in dict.fromkeys(IMAGE_SET.values()):
            summary = self.run.read_json("manifest", f"{image_set}.json")
            if summary is None:
                continue
            table = read_manifest_columns(self.run, image_set, ["image_id", "keys", "mask_uri", "reason"])
            listed = _array(table["image_id"])
            known = pc.fill_null(pc.index_in(listed, ids), -1).to_numpy(zero_copy_only=False).astype(np.int32)
            fresh = known < 0
            known[fresh] = len(ids) + np.arange(fresh.sum(), dtype=np.int32)
            new = table.filter(pa.array(fresh))
            ids = pa.concat_arrays([ids, _array(new["image_id"])])
            keys.append(new["keys"])
            ground_truth.append(pc.is_valid(new["mask_uri"]).to_numpy())
            reasons.append(new["reason"])
            numbers = np.full(len(ids), -1, np.int32)
            numbers[known[::-1]] = np.arange(len(known), dtype=np.int32)[::-1]  # of two equal ids the first counts
            self._rows[image_set] = known
            self._numbers[image_set] = numbers
            self._shard_sizes[image_set] = summary["shard_size"]
        if not self._numbers:
            raise UserError(f"{self.run.root} has listed no images yet; run it first")
        self.ids = ids
        for image_set, numbers in self._numbers.items():
            self._numbers[image_set] = np.pad(numbers, (0, len(ids) - len(numbers)), constant_values=-1)
        self.has_ground_truth = np.concatenate(ground_truth)
        self._keys = np.zeros((len(ids), self._key_bytes), np.uint8)
        self._labelled = np.zeros(len(ids), np.bool_)
        self._listed_reason = np.full(len(ids), -1, np.int16)
        start = 0
        for some_keys, some_reasons in zip(keys, reasons, strict=True):
            rows = np.arange(start, start + len(some_keys), dtype=np.int32)
            self._labelled[rows] = pc.is_valid(some_keys).to_numpy()
            self._set_keys(rows, _array(some_keys))
            self._listed_reason[rows] = self._codes(_array(some_reasons))
            start += len(some_keys)

    def _changed_shards(self, name: str) -> tuple[dict[int, str | None], dict[int, str | None]]:
        """Finished shards of a pass that have not been read as they are now, with the versions of their markers.

        The second mapping has the versions of the parts of markers, to be kept when these shards have been read.
        """
        markers, columns = self.run.markers(name), self._passes[name]
        versions = {shard: entry.version for shard, entry in markers.singles.items() if entry.size}
        for part, entry in markers.parts.items():
            if columns.parts.get(part) != entry.version:
                versions.update(markers.versions(part))
        parts = {part: entry.version for part, entry in markers.parts.items()}
        return {
            shard: version for shard, version in versions.items() if (shard, version) not in columns.shards.items()
        }, parts

    def _read_shards(self, name: str, shards: list[int]) -> Iterator[_ShardTable]:
        if not shards:
            return iter(())
        return prefetch(partial(_read_shard, self.run, name), sorted(shards), _READERS, _AHEAD)

    def _take(self, name: str, table: _ShardTable) -> None:
        """Enter a shard's rows; the good ones last, because only the second row of a repeated id fails."""
        self.problems.pop((name, table.shard), None)
        if table.problem is not None:
            self.problems[name, table.shard] = table.problem
        size = self._shard_sizes[IMAGE_SET[name]]
        rows = self._rows[IMAGE_SET[name]][table.shard * size : (table.shard + 1) * size]
        columns = self._passes[name]
        columns.status[rows], columns.reason[rows] = PENDING, -1
        ids = self.ids.take(pa.array(rows))
        if table.failures is not None:
            places, known = _places(table.failures, ids)
            columns.status[rows[places]] = FAILED
            columns.reason[rows[places]] = self._codes(_array(table.failures["reason"]))[known]
        if table.rows is not None:
            places, known = _places(table.rows, ids)
            columns.status[rows[places]], columns.reason[rows[places]] = OK, -1
            for score in SCORES[name]:
                if score not in table.rows.column_names:
                    continue  # written by an earlier version
                values = table.rows[score].to_numpy().astype(np.float32)
                self.scores[f"{name}.{score}"][rows[places]] = values[known]
            self._enter_keys(name, rows[places], _array(table.rows["keys"]).filter(pa.array(known)))

    def _enter_keys(self, name: str, rows: NDArray[np.int32], keys: pa.Array) -> None:
        if name == "predict":  # what is predicted counts only where no label is known
            unknown = ~self._labelled[rows]
            rows, keys = rows[unknown], keys.filter(pa.array(unknown))
        else:
            self._labelled[rows] = True
        self._keys[rows] = 0
        self._set_keys(rows, keys)

    def _set_keys(self, rows: NDArray[np.int32], keys: pa.Array) -> None:
        owners = rows[pc.list_parent_indices(keys).to_numpy()]
        values = pc.list_flatten(keys).to_numpy(zero_copy_only=False).astype(np.intp)
        known = (values >= 0) & (values >> 3 < self._key_bytes)
        owners, values = owners[known], values[known]
        np.bitwise_or.at(self._keys, (owners, values >> 3), (1 << (values & 7)).astype(np.uint8))

    def _codes(self, reasons: pa.Array) -> NDArray[np.int16]:
        for reason in reasons.unique().to_pylist():
            if reason is not None and reason not in self.reasons:
                self.reasons.append(reason)
        found = pc.index_in(reasons, pa.array(self.reasons, pa.large_string()))
        codes = pc.if_else(pc.is_valid(reasons), pc.fill_null(found, -1), -1)
        return codes.to_numpy(zero_copy_only=False).astype(np.int16)


def _places(table: pa.Table, ids: pa.Array) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Where the rows of a table stand among the ids of its shard, and which of them do."""
    found = pc.fill_null(pc.index_in(_array(table["image_id"]), ids), -1).to_numpy(zero_copy_only=False)
    known = found >= 0
    return found[known].astype(np.intp), known


def _read_shard(run: RunDirectory, name: str, shard: int) -> _ShardTable:
    def read(files: ShardFiles) -> _ShardTable:
        columns = ["image_id", "keys", *SCORES[name]]
        rows = read_columns(files.rows.url, columns, files.rows.size)
        failed = files.failures
        return _ShardTable(shard, rows, failed and read_columns(failed.url, ["image_id", "reason"], failed.size))

    try:
        return read_published(run, name, shard, read)
    except (UserError, OSError) as error:
        return _ShardTable(shard, problem=" ".join(str(error).split()))


def _array(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array; texts and lists as large types, because the small ones end at 2 GiB."""
    kind = column.type
    if pa.types.is_string(kind):
        kind = pa.large_string()
    elif pa.types.is_list(kind):
        kind = pa.large_list(kind.value_type)
    return pa.concat_arrays([chunk.cast(kind) for chunk in column.chunks]) if column.num_chunks else pa.array([], kind)
