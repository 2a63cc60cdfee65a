"""The rows of a table, CSV, JSON lines or Parquet, as a stream from any URL."""

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, dropwhile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pfit_ray import storage
from pfit_ray.errors import UserError
from pfit_ray.storage.ranges import open_seekable

Row = dict[str, Any]
"""Cells by column; an absent column has no cell."""

_SIGNS = (",", ";", "\t", "|")
"""Separators of the cells of a line."""
_EXCEL_SIGN = re.compile(r"sep=(.)", re.IGNORECASE)
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BLOCK = 1 << 23
_BATCH_ROWS = 4096


def read_rows(
    url: str, field: str, choose: Callable[[Sequence[str]], Sequence[str] | str]
) -> Iterator[tuple[str, Row]]:
    """Rows of a table.

    Args:
        url: a file ending in .csv or .tsv (cells between commas, semicolons, tabs or bars), .jsonl or .parquet.
        field: the config field that names it, for error messages.
        choose: gets the table's columns and returns those of interest, or a text that says which are needed and
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
            raise UserError(f"{field}: {url} has the columns {names}; it needs {wanted}")
        return wanted

    try:
        with open_seekable(url, block=_BLOCK) as file:
            yield from reader(file, f"{field}: {url}", chosen)
    except UnicodeDecodeError as error:
        raise UserError(f"{field}: {url} is not UTF-8 text; save it as UTF-8") from error
    except (csv.Error, pa.ArrowException) as error:
        raise UserError(f"{field}: {url} is not a valid .{suffix} file: {error}") from error


_Choose = Callable[[Sequence[str]], Sequence[str]]


def _read_csv(file: Any, told: str, choose: _Choose) -> Iterator[tuple[str, Row]]:
    encoding = "utf-16" if file.read(2) in _UTF_16 else "utf-8-sig"  # the former is Excel's "Unicode text"
    file.seek(0)
    with io.TextIOWrapper(file, encoding, newline="") as text:
        lines = dropwhile(lambda line: not line.strip(), text)
        first = next(lines, "")
        excel = _EXCEL_SIGN.fullmatch(first.strip())
        first = next(lines, "") if excel else first
        sign = excel[1] if excel else max(_SIGNS, key=first.count)  # the first where the header is a single word
        reader = csv.reader(chain([first], lines), delimiter=sign, strict=True, skipinitialspace=sign != "\t")
        header = [cell.strip() for cell in next(reader, ())]
        named = [(number, name) for number, name in enumerate(header) if name]  # pandas' index column has no name
        wanted = set(choose([name for _, name in named]))
        if doubled := sorted(name for name in wanted if header.count(name) > 1):
            raise UserError(f"{told} has more than one column {doubled[0]!r}; keep one of them")
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
    named = {path[0]: names for path, names in class_label_names(table.schema_arrow).items() if len(path) == 1}
    for batch in table.iter_batches(_BATCH_ROWS, columns=wanted):
        for row in batch.to_pylist():
            number += 1
            row |= {name: named_classes(row[name], (), named[name]) for name in wanted if name in named}
            yield f"row {number}", row


TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
"""Endings of tables."""

_READERS: dict[str, Callable[[Any, str, _Choose], Iterator[tuple[str, Row]]]] = {
    "csv": _read_csv,
    "tsv": _read_csv,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}


def features(schema: pa.Schema) -> dict[str, Any]:
    """Hugging Face's description of the columns of a Parquet file; empty if `datasets` did not write it."""
    try:
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        return dict(described["info"]["features"])
    except (ValueError, LookupError, TypeError):
        return {}


def class_label_names(schema: pa.Schema) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Names of the classes by number, for each column of numbers that `datasets` calls a ClassLabel.

    Such a column is a number, a list of numbers, or a field in a struct or list of structs, as of the objects in an
    image; its path is the name of the column and of the fields.
    """
    found: dict[tuple[str, ...], tuple[str, ...]] = {}

    def walk(path: tuple[str, ...], feature: Any) -> None:
        if isinstance(feature, list):
            feature = feature[0] if feature else None
        if not isinstance(feature, dict):
            return
        names = feature.get("names")
        if feature.get("_type") == "ClassLabel" and isinstance(names, list):
            found[path] = tuple(map(str, names))
        elif "feature" in feature and "_type" in feature:
            walk(path, feature["feature"])
        elif not isinstance(feature.get("_type"), str):
            for name, inner in feature.items():
                walk((*path, name), inner)

    for name, feature in features(schema).items():
        if name in schema.names:
            walk((name,), feature)
    return found


def named_classes(cell: Any, path: Sequence[str], names: Sequence[str]) -> list[str] | None:
    """The class names of a cell of numbers; None where it is null or -1, which `datasets` writes for no label.

    Args:
        cell: a number, a list, a struct.
        path: fields inside the cell that lead to the numbers.
        names: by number. Other numbers stay as they are, and name no class.
    """
    if cell is None or cell == -1:
        return None
    if isinstance(cell, list):
        inner = [named_classes(one, path, names) for one in cell]
        return None if None in inner else [name for one in inner if one for name in one]
    if path:
        return named_classes(cell.get(path[0]) if isinstance(cell, dict) else None, path[1:], names)
    known = isinstance(cell, int) and 0 <= cell < len(names)
    return [names[cell] if known else str(cell)]


def is_text(kind: pa.DataType) -> bool:
    """Whether cells of a type are texts or lists of texts, in any layout."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return is_text(kind.value_type)
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
