"""Read the finished shards of a pass: what a marker names belongs together, also while a shard is published again."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from pfit_ray import storage
from pfit_ray.constants import Row
from pfit_ray.data.label_shards import read_member
from pfit_ray.errors import RowError, UserError
from pfit_ray.rundir.directory import RunDirectory, ShardFile, ShardFiles
from pfit_ray.storage.ranges import read_columns

T = TypeVar("T")


def read_published(run: RunDirectory, name: str, shard: int, read: Callable[[ShardFiles], T], settled: str = "") -> T:
    """Read files of a finished shard, and read again if a retry has replaced them meanwhile.

    Args:
        run: the run directory.
        name: the pass.
        shard: its number.
        read: reads the files.
        settled: see `pfit_ray.rundir.markers.read_marker`.

    Raises:
        UserError: when the shard is not finished, or a file that its marker names is missing or damaged.
    """
    seen: ShardFiles | None = None
    while True:
        files = run.published(name, shard, settled)
        settled = ""
        if files is None:
            raise UserError(f"pass {name}: shard {shard} of {run.root} is not finished; run it first")
        try:
            return read(files)
        except FileNotFoundError as error:
            if files == seen:
                raise UserError(
                    _lost(run, name, shard, f"is finished, and a file of it is missing ({error})")
                ) from error
            seen = files
        except pa.ArrowException as error:
            told = " ".join(str(error).split())
            raise UserError(_lost(run, name, shard, f"is finished, and a file of it is damaged ({told})")) from error


def _lost(run: RunDirectory, name: str, shard: int, what: str) -> str:
    marker = run.marker(name, shard)
    how = f"remove {marker}" if storage.exists(marker) else f"put an empty file at {marker}"
    return f"pass {name}: shard {shard} {what}; {how}, and the same command does it again"


def read_rows(
    run: RunDirectory,
    name: str,
    shard: int,
    columns: Sequence[str] | None = None,
    *,
    small: bool = False,
    settled: str = "",
) -> list[Row]:
    """Good rows of a finished shard, each with the URL of its label maps as `label_url`.

    Args:
        run: the run directory.
        name: the pass.
        shard: its number.
        columns: those to read, as far as the file has them; None reads all.
        small: these columns are small and others are not: only their bytes are read.
        settled: see `pfit_ray.rundir.markers.read_marker`.

    Raises:
        UserError: as `read_published`.
    """

    def read(files: ShardFiles) -> list[Row]:
        rows: list[Row] = _table(files.rows, columns, small).to_pylist()
        return [{**row, "label_url": files.labels.url} for row in rows]

    return read_published(run, name, shard, read, settled)


def read_failures(run: RunDirectory, name: str, shard: int, settled: str = "") -> list[Row]:
    """Failed rows of a finished shard; see `read_rows`."""

    def read(files: ShardFiles) -> list[Row]:
        return [] if files.failures is None else _table(files.failures).to_pylist()

    return read_published(run, name, shard, read, settled)


def read_label(row: Mapping[str, Any]) -> bytes:
    """The PNG of a row's label map.

    Args:
        row: `image_id`, `label_url`, `label_offset` and `label_size`. They may be of a time before the shard was
            published again: then the label map that is there now is read.

    Raises:
        RowError: when it cannot be read.
    """
    try:
        return read_member(row["label_url"], row["image_id"], row["label_offset"], row["label_size"])
    except RowError as error:
        now = _place_now(row) if error.reason in ("missing", "io_error") else None
        if now is None:
            raise
        return read_member(now["label_url"], now["image_id"], now["label_offset"], now["label_size"])


def _place_now(row: Mapping[str, Any]) -> Row | None:
    """The row's place in the shard's present files, None if these are the ones that it names."""
    folder, _, file = str(row["label_url"]).rpartition("/")
    root, _, name = folder.rpartition("/")[0].rpartition("/")
    number = file.partition(".")[0].partition("-")[0]
    if not (root and number.isdigit()):
        return None
    run = RunDirectory(root)
    try:
        files = run.published(name, int(number))
        if files is None or files.labels.url == row["label_url"]:
            return None
        rows = read_rows(run, name, int(number), ["image_id", "label_offset", "label_size"], small=True)
    except UserError as error:
        raise RowError("missing", str(error)) from error
    return next((one for one in rows if one["image_id"] == row["image_id"]), None)


def _table(file: ShardFile, columns: Sequence[str] | None = None, small: bool = False) -> pa.Table:
    if small and columns is not None:
        return read_columns(file.url, columns, file.size)
    with pq.ParquetFile(io.BytesIO(storage.read_bytes(file.url))) as table:
        there = None if columns is None else [name for name in columns if name in table.schema_arrow.names]
        return table.read(there, use_threads=False)
