"""The rows of a table, CSV, JSON lines or Parquet, as a stream from any URL."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pfit_ray import storage
from pfit_ray.errors import UserError
from pfit_ray.storage.ranges import open_seekable

Row = dict[str, Any]
"""Cells by column; a column that is not there has no cell."""

_BLOCK = 1 << 23
_BATCH_ROWS = 4096


def read_rows(
    url: str, field: str, columns: Sequence[str], check: Callable[[Sequence[str]], str | None]
) -> Iterator[tuple[str, Row]]:
    """Rows of a table.

    Args:
        url: a file ending in .csv, .jsonl or .parquet.
        field: the config field that names it, for error messages.
        columns: the columns that are of interest.
        check: is given the table's columns and says which are needed, if one is missing.

    Yields:
        Where the row stands, such as "line 3", and its cells.

    Raises:
        UserError: when the table is missing or damaged, or a column is missing.
    """
    suffix = url.lower().rpartition(".")[2]
    reader = _READERS.get(suffix)
    if reader is None:
        raise UserError(f"{field}: {url} must end in .csv, .jsonl or .parquet")
    if not storage.exists(url):
        raise UserError(f"{field}: there is no file {url}")

    def checked(found: Sequence[str]) -> None:
        needed = check(found)
        if needed is not None:
            names = ", ".join(map(repr, found)) or "none"
            raise UserError(f"{field}: {url} has the columns {names}; needed are {needed}")

    try:
        with open_seekable(url, block=_BLOCK) as file:
            yield from reader(file, f"{field}: {url}", columns, checked)
    except UnicodeDecodeError as error:
        raise UserError(f"{field}: {url} is not UTF-8 text") from error
    except (csv.Error, pa.ArrowException) as error:
        raise UserError(f"{field}: {url} is not a valid .{suffix} file: {error}") from error


_Check = Callable[[Sequence[str]], None]


def _read_csv(file: Any, told: str, columns: Sequence[str], check: _Check) -> Iterator[tuple[str, Row]]:
    with io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        reader = csv.DictReader(text, restkey="", strict=True)
        check(reader.fieldnames or ())
        for row in reader:
            if "" in row:
                raise UserError(
                    f"{told}, line {reader.line_num} has more cells than the header; "
                    "separate classes by ';' or put them into quotes"
                )
            yield f"line {reader.line_num}", row


def _read_jsonl(file: Any, told: str, columns: Sequence[str], check: _Check) -> Iterator[tuple[str, Row]]:
    checked = False
    with io.TextIOWrapper(file, "utf-8-sig") as text:
        for number, line in enumerate(text, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(f"{told}, line {number} is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise UserError(f"{told}, line {number} is not a JSON object")
            if not checked:
                check(tuple(row))
                checked = True
            yield f"line {number}", row


def _read_parquet(file: Any, told: str, columns: Sequence[str], check: _Check) -> Iterator[tuple[str, Row]]:
    table = pq.ParquetFile(file, pre_buffer=False)
    found = table.schema_arrow.names
    check(found)
    number = 0
    wanted = [name for name in columns if name in found]
    for batch in table.iter_batches(_BATCH_ROWS, columns=wanted):
        for row in batch.to_pylist():
            number += 1
            yield f"row {number}", row


_READERS: dict[str, Callable[[Any, str, Sequence[str], _Check], Iterator[tuple[str, Row]]]] = {
    "csv": _read_csv,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}
