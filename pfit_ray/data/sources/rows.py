"""The rows of a table, CSV, JSON lines or Parquet, as a stream from any URL."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, dropwhile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pfit_ray import storage
from pfit_ray.errors import UserError
from pfit_ray.storage.ranges import open_seekable

Row = dict[str, Any]
"""Cells by column; a column that is not there has no cell."""

_SIGNS = (",", ";", "\t")
"""What may stand between the cells of a line."""
_BLOCK = 1 << 23
_BATCH_ROWS = 4096


def read_rows(
    url: str, field: str, choose: Callable[[Sequence[str]], Sequence[str] | str]
) -> Iterator[tuple[str, Row]]:
    """Rows of a table.

    Args:
        url: a file ending in .csv or .tsv (cells between commas, semicolons or tabs), .jsonl or .parquet.
        field: the config field that names it, for error messages.
        choose: is given the table's columns and says which are of interest, or, as a text, which are needed and
            missing.

    Yields:
        Where the row stands, such as "line 3", and its cells.

    Raises:
        UserError: when the table is missing or damaged, or a column is missing.
    """
    suffix = url.lower().rpartition(".")[2]
    reader = _READERS.get(suffix)
    if reader is None:
        raise UserError(f"{field}: {url} must end in .csv, .tsv, .jsonl or .parquet")
    if not storage.exists(url):
        raise UserError(f"{field}: there is no file {url}")

    def chosen(found: Sequence[str]) -> Sequence[str]:
        wanted = choose(found)
        if isinstance(wanted, str):
            names = ", ".join(map(repr, found)) or "none"
            raise UserError(f"{field}: {url} has the columns {names}; needed are {wanted}")
        return wanted

    try:
        with open_seekable(url, block=_BLOCK) as file:
            yield from reader(file, f"{field}: {url}", chosen)
    except UnicodeDecodeError as error:
        raise UserError(f"{field}: {url} is not UTF-8 text") from error
    except (csv.Error, pa.ArrowException) as error:
        raise UserError(f"{field}: {url} is not a valid .{suffix} file: {error}") from error


_Choose = Callable[[Sequence[str]], Sequence[str]]


def _read_csv(file: Any, told: str, choose: _Choose) -> Iterator[tuple[str, Row]]:
    with io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        lines = dropwhile(lambda line: not line.strip(), text)
        first = next(lines, "")
        sign = max(_SIGNS, key=first.count)  # the first of them where the header is a single word
        reader = csv.reader(chain([first], lines), delimiter=sign, strict=True, skipinitialspace=sign != "\t")
        header = [cell.strip() for cell in next(reader, ())]
        named = [(number, name) for number, name in enumerate(header) if name]  # pandas' index column has no name
        wanted = set(choose([name for _, name in named]))
        if doubled := sorted(name for name in wanted if header.count(name) > 1):
            raise UserError(f"{told} has more than one column {doubled[0]!r}; leave one of them")
        for cells in reader:
            if not cells:
                continue
            if any(map(str.strip, cells[len(header) :])):
                raise UserError(
                    f"{told}, line {reader.line_num} has more cells than the header; "
                    "separate classes by ';' or put them into quotes"
                )
            row = {name: cells[number].strip() if number < len(cells) else None for number, name in named}
            yield f"line {reader.line_num}", row


def _read_jsonl(file: Any, told: str, choose: _Choose) -> Iterator[tuple[str, Row]]:
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
                choose(tuple(row))
                checked = True
            yield f"line {number}", row


def _read_parquet(file: Any, told: str, choose: _Choose) -> Iterator[tuple[str, Row]]:
    table = pq.ParquetFile(file, pre_buffer=False)
    found = table.schema_arrow.names
    wanted = [name for name in choose(found) if name in found]
    number = 0
    for batch in table.iter_batches(_BATCH_ROWS, columns=wanted):
        for row in batch.to_pylist():
            number += 1
            yield f"row {number}", row


_READERS: dict[str, Callable[[Any, str, _Choose], Iterator[tuple[str, Row]]]] = {
    "csv": _read_csv,
    "tsv": _read_csv,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}
