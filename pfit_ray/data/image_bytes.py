"""The encoded bytes of images and label maps: in files, in tar files, in columns of Parquet files."""

import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pfit_ray import storage
from pfit_ray.config.credentials import redacted
from pfit_ray.constants import FAILED, OK, Row
from pfit_ray.errors import RowError
from pfit_ray.storage.ranges import open_for_rows
from pfit_ray.storage.threads import prefetch

IMAGE_COLUMNS = ("image", "bytes", "jpg", "jpeg", "png", "webp", "img")
MASK_COLUMNS = ("mask", "label")
_BYTES_FIELD, _PATH_FIELD = "bytes", "path"
_BATCH_ROWS = 16
_CELL = re.compile(r"(.+)#row=([0-9]+)&column=(.+)", re.DOTALL)


PLACE_FIELDS = [
    ("uri", pa.string()),
    ("offset", pa.int64()),
    ("length", pa.int64()),
    ("row", pa.int64()),
    ("column", pa.string()),
]
"""Where the bytes of an image are: the file at `uri`; of a tar file the bytes [offset, offset + length); of a Parquet
file the cell of row `row`, from 0, in column `column`."""


def fetch_images(rows: Sequence[Row], threads: int = 1) -> None:
    """Read the encoded bytes of each good row's image into its column `encoded`, or fail the row.

    A Parquet file is opened once for all its rows, and each of its row groups read once. An image that has
    changed since it was listed is read as it is now.

    Args:
        rows: rows of a manifest.
        threads: files that are read at the same time.
    """
    single: list[Row] = []
    in_tables: dict[tuple[str, str], dict[int, Row]] = {}
    for row in rows:
        if row["status"] != OK:
            continue
        if row.get("row") is None:
            single.append(row)
        else:
            in_tables.setdefault((row["uri"], row["column"]), {})[row["row"]] = row
    jobs: list[Callable[[], None]] = [partial(_fetch_one, row) for row in single]
    jobs += [partial(_fetch_table, *place, by_number) for place, by_number in in_tables.items()]
    for _ in prefetch(lambda job: job(), jobs, threads if threads > 1 and len(jobs) > 1 else 0, ahead=len(jobs)):
        pass


def _fetch_one(row: Row) -> None:
    try:
        row["encoded"] = fetch_image(row)
    except RowError as error:
        _fail(row, error)


def _fetch_table(uri: str, column: str, by_number: dict[int, Row]) -> None:
    try:
        for number, found in read_cells(uri, column, sorted(by_number)):
            row = by_number.pop(number)
            if isinstance(found, RowError):
                _fail(row, found)
            else:
                row["encoded"] = found
    except RowError as error:
        for row in by_number.values():
            _fail(row, error)


def fetch_image(row: Mapping[str, Any]) -> bytes:
    """The encoded bytes of one image.

    Args:
        row: has the columns `PLACE_FIELDS`; all but `uri` may be absent.

    Raises:
        RowError: as `storage.fetch` does; `bad_file` for a damaged Parquet file.
    """
    if row.get("row") is not None:
        with closing(read_cells(row["uri"], row["column"], [row["row"]])) as images:
            _, found = next(images)
        if isinstance(found, RowError):
            raise found
        return found
    if row.get("offset") is None:
        return storage.fetch(row["uri"])
    if not row["length"]:
        raise RowError("empty_file", f"the image at byte {row['offset']} of {row['uri']} has no bytes")
    data = storage.fetch(row["uri"], row["offset"], row["offset"] + row["length"])
    if len(data) != row["length"]:
        raise RowError("io_error", f"{row['uri']} ends before byte {row['offset'] + row['length']}; it is damaged")
    return data


def image_column(schema: pa.Schema, wanted: str | None, known: Sequence[str] = IMAGE_COLUMNS) -> str | None:
    """Path of the column that holds encoded images.

    Args:
        schema: of the Parquet file.
        wanted: its name; None takes the first of `known` that holds images.
        known: names.

    Returns:
        The name of a column of bytes, `NAME.bytes` for a struct with such a field, as Hugging Face datasets writes
        it, or None where there is no such column.
    """
    for name in known if wanted is None else (wanted,):
        if name not in schema.names:
            continue
        kind = schema.field(name).type
        if _is_binary(kind):
            return name
        if pa.types.is_struct(kind) and _is_binary(_field(kind, _BYTES_FIELD)):
            return f"{name}.{_BYTES_FIELD}"
    return None


def read_image_rows(file: BinaryIO, column: str, rows: Sequence[int]) -> Iterator[tuple[int, bytes | str | None]]:
    """Images of some rows of a Parquet file, each row group read once, its other columns not at all.

    Args:
        file: the Parquet file, seekable.
        column: as `image_column` gives it.
        rows: ascending row numbers from 0; those that the file does not have are left out.

    Yields:
        Row number and bytes, or the path that stands beside them where there are no bytes; None where neither is.

    Raises:
        pyarrow.ArrowException: when the file is damaged or has no such column.
    """
    table = pq.ParquetFile(file, pre_buffer=False)
    name, _, field = column.rpartition(".")
    kind = table.schema_arrow.field(name).type if name in table.schema_arrow.names and field == _BYTES_FIELD else None
    columns = [column]
    if kind is not None and pa.types.is_struct(kind) and kind.get_field_index(_PATH_FIELD) >= 0:
        columns.append(f"{name}.{_PATH_FIELD}")
    start = 0
    for group in range(table.num_row_groups):
        end = start + table.metadata.row_group(group).num_rows
        wanted = [row for row in rows if start <= row < end]
        if wanted:
            yield from _read_group(table, group, columns, start, wanted)
        start = end


def read_cells(uri: str, column: str, rows: Sequence[int]) -> Generator[tuple[int, bytes | RowError], None, None]:
    """Images of a Parquet file by row number, or what is wrong with one of them.

    A row that has a path instead of bytes is read from there; a relative path begins at the file's own folder.

    Args:
        uri: the file.
        column: as `image_column` gives it.
        rows: ascending row numbers from 0.

    Raises:
        RowError: as `open_for_rows`, when the whole file cannot be read.
    """
    with open_for_rows(uri) as file:
        found = read_image_rows(file, column, rows)
        for number in rows:
            row, data = next(found, (None, None))
            if row != number:
                yield number, RowError("missing", f"{uri} has no row {number} any more")
            elif isinstance(data, str):
                yield number, _fetched(uri, number, data)
            else:
                yield number, data or RowError("empty_file", f"row {number} of {uri} has no bytes")


def cell_address(uri: str, column: str, row: int) -> str:
    """One text that says where a cell is; see `fetch_address`."""
    return f"{uri}#row={row}&column={column}"


def fetch_address(address: str) -> bytes:
    """The bytes of a file, or of the cell of a Parquet file that `cell_address` names.

    Raises:
        RowError: as `storage.fetch` and `read_cells`.
    """
    cell = _CELL.fullmatch(address)
    if cell is None:
        return storage.fetch(address)
    with closing(read_cells(cell[1], cell[3], [int(cell[2])])) as cells:
        _, found = next(cells)
    if isinstance(found, RowError):
        raise found
    return found


def _fetched(uri: str, row: int, path: str) -> bytes | RowError:
    try:
        if storage.is_local(path) and not path.startswith(("/", "~", "file://", "local://")):
            path = storage.join(uri.rpartition("/")[0], path)
        return storage.fetch(path)
    except RowError as error:
        return RowError(error.reason, f"row {row} of {uri} has a path instead of bytes: {error.message}")


def _read_group(
    table: pq.ParquetFile, group: int, columns: list[str], start: int, wanted: Sequence[int]
) -> Iterator[tuple[int, bytes | str | None]]:
    remaining = list(reversed(wanted))
    for batch in table.iter_batches(_BATCH_ROWS, row_groups=[group], columns=columns):
        if not batch.num_columns:
            raise pa.ArrowInvalid(f"there is no column {columns[0]}")
        cells = batch.column(0)
        while remaining and remaining[-1] < start + len(cells):
            row = remaining.pop()
            yield row, _content(cells[row - start].as_py())
        start += len(cells)
        if not remaining:
            return


def _content(cell: object) -> bytes | str | None:
    inside: dict[str, Any] = cell if isinstance(cell, dict) else {_BYTES_FIELD: cell}
    data: bytes | list[int] | None = inside[_BYTES_FIELD]
    path: str | None = inside.get(_PATH_FIELD)
    return (bytes(data) if data else None) or path or None


def _field(kind: pa.DataType, name: str) -> pa.DataType:
    index = kind.get_field_index(name)
    return pa.null() if index < 0 else kind[index].type


def _is_binary(kind: pa.DataType) -> bool:
    """Whether cells of a type are bytes, in whatever way they are laid out."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.types.is_uint8(kind.value_type)
    return (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _fail(row: Row, error: RowError) -> None:
    row.update(status=FAILED, stage="fetch", reason=error.reason, message=redacted(error.message))
