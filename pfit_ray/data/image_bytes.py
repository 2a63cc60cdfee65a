"""The encoded bytes of images and label maps: in files, in tar files, in columns of Parquet files."""

import json
import re
import tarfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
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
_CELL = re.compile(r"(.+)#row=([0-9]+)&column=(.+?)(?:&named=(\[.*\]))?", re.DOTALL)


PLACE_FIELDS = [
    ("uri", pa.string()),
    ("offset", pa.int64()),
    ("length", pa.int64()),
    ("row", pa.int64()),
    ("column", pa.string()),
    ("name", pa.string()),
    ("name_column", pa.string()),
]
"""Where the bytes of an image are: the file at `uri`; of a tar file the bytes [offset, offset + length); of a Parquet
file the cell of row `row`, from 0, in column `column`. `name` is what the image is called there, by which a file that
has changed since is noticed: what the header of the tar member says, or the cell of `name_column`; null where nothing
tells."""


def fetch_images(rows: Sequence[Row], threads: int = 1) -> None:
    """Read the encoded bytes of each good row's image into its column `encoded`, or fail the row.

    A Parquet file is opened once for all its rows, and each of its row groups read once. An image that has
    changed since it was listed is read as it is now; where another one has taken its place, the row fails.

    Args:
        rows: rows of a manifest.
        threads: files that are read at the same time.
    """
    single: list[Row] = []
    in_tables: dict[tuple[str, str, str | None], dict[int, Row]] = {}
    for row in rows:
        if row["status"] != OK:
            continue
        if row.get("row") is None:
            single.append(row)
        else:
            place = row["uri"], row["column"], row.get("name_column")
            in_tables.setdefault(place, {})[row["row"]] = row
    jobs: list[Callable[[], None]] = [partial(_fetch_one, row) for row in single]
    jobs += [partial(_fetch_table, *place, by_number) for place, by_number in in_tables.items()]
    for _ in prefetch(lambda job: job(), jobs, threads if threads > 1 and len(jobs) > 1 else 0, ahead=len(jobs)):
        pass


def _fetch_one(row: Row) -> None:
    try:
        row["encoded"] = fetch_image(row)
    except RowError as error:
        _fail(row, error)


def _fetch_table(uri: str, column: str, name_column: str | None, by_number: dict[int, Row]) -> None:
    names = {number: by_number[number].get("name") for number in sorted(by_number)}
    try:
        for number, found in read_cells(uri, column, names, name_column):
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
        RowError: as `storage.fetch` does; `bad_file` for a damaged Parquet file, and where something else lies there.
    """
    if row.get("row") is not None:
        return _cell(row["uri"], row["column"], row["row"], row.get("name_column"), row.get("name"))
    if row.get("offset") is None:
        return storage.fetch(row["uri"])
    if not row["length"]:
        raise RowError("empty_file", f"the image at byte {row['offset']} of {row['uri']} has no bytes")
    return read_tar_member(row["uri"], row.get("name"), row["offset"], row["length"])


def read_tar_member(uri: str, name: str | None, offset: int, length: int) -> bytes:
    """The bytes of one member of a tar file, with one ranged read.

    Args:
        uri: the file.
        name: what its header says, see `header_name`; None: nobody knows, and whatever lies there is read.
        offset: its first byte.
        length: its bytes.

    Raises:
        RowError: as `storage.fetch` does; `bad_file` where it is not there.
    """
    start = offset if name is None else max(0, offset - tarfile.BLOCKSIZE)
    data = storage.fetch(uri, start, offset + length)
    if len(data) != offset + length - start:
        raise _changed(f"{uri} ends before byte {offset + length}")
    if name is not None and (found := header_name(data[: offset - start])) != (name, length):
        there = "no member begins" if found is None else f"{found[0]!r} lies"
        raise _changed(f"{uri}: {there} at byte {offset}, and not {name!r} of {length} bytes")
    return data[offset - start :]


def header_name(header: bytes) -> tuple[str, int] | None:
    """Name and bytes of a tar member as the block before its content has them; None where that is no header.

    Longer names stand before that block, which then has only their beginning.
    """
    try:
        member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None
    return member.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), member.size


def _changed(what: str) -> RowError:
    return RowError(
        "bad_file",
        f"{what}: the file has changed since it was listed; put the old one back, or list it again (--redo data)",
    )


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


def read_image_rows(
    file: BinaryIO, column: str, rows: Iterable[int], name_column: str | None = None
) -> Iterator[tuple[int, bytes | str | None, str | None]]:
    """Images of some rows of a Parquet file. Each row group is read once, and other columns are not read.

    Args:
        file: the Parquet file, seekable.
        column: as `image_column` gives it.
        rows: ascending row numbers from 0; those that the file does not have are left out.
        name_column: a column that names the images.

    Yields:
        Row number, bytes, or the path where there are no bytes (None where neither is), and
        the cell of `name_column` as text.

    Raises:
        pyarrow.ArrowException: when the file is damaged or has no such column.
    """
    rows = list(rows)
    table = pq.ParquetFile(file, pre_buffer=False)
    name, _, field = column.rpartition(".")
    kind = table.schema_arrow.field(name).type if name in table.schema_arrow.names and field == _BYTES_FIELD else None
    columns, image = [column], column
    if kind is not None and pa.types.is_struct(kind):
        image = name
        if kind.get_field_index(_PATH_FIELD) >= 0:
            columns.append(f"{name}.{_PATH_FIELD}")
    if name_column is not None:
        columns.append(name_column)
    start = 0
    for group in range(table.num_row_groups):
        end = start + table.metadata.row_group(group).num_rows
        wanted = [row for row in rows if start <= row < end]
        if wanted:
            yield from _read_group(table, group, columns, (image, name_column), start, wanted)
        start = end


def read_cells(
    uri: str, column: str, rows: Mapping[int, str | None] | Sequence[int], name_column: str | None = None
) -> Generator[tuple[int, bytes | RowError], None, None]:
    """Images of a Parquet file by row number, or the error of one of them.

    If a row has a path instead of bytes, its image is read from there; a relative path begins at the file's folder.

    Args:
        uri: the file.
        column: as `image_column` gives it.
        rows: ascending row numbers from 0; with `name_column` what the image of each is called.
        name_column: see `PLACE_FIELDS`.

    Raises:
        RowError: as `open_for_rows`, when the whole file cannot be read.
    """
    names = rows if isinstance(rows, Mapping) else {}
    with open_for_rows(uri) as file:
        found = read_image_rows(file, column, rows, name_column)
        for number in rows:
            row, data, name = next(found, (None, None, None))
            if row != number:
                yield number, RowError("missing", f"{uri} has no row {number} any more")
            elif name_column is not None and name != names.get(number):
                yield number, _changed(f"{uri}: row {number} is {name!r}, and not {names.get(number)!r}")
            elif isinstance(data, str):
                yield number, _fetched(uri, number, data)
            else:
                yield number, data or RowError("empty_file", f"row {number} of {uri} has no bytes")


def cell_address(uri: str, column: str, row: int, name_column: str | None = None, name: str | None = None) -> str:
    """One text that says where a cell is; see `fetch_address` and `PLACE_FIELDS`."""
    named = "" if name_column is None else f"&named={json.dumps([name_column, name], ensure_ascii=False)}"
    return f"{uri}#row={row}&column={column}{named}"


def fetch_address(address: str) -> bytes:
    """The bytes of a file, or of the cell of a Parquet file that `cell_address` names.

    Raises:
        RowError: as `storage.fetch` and `read_cells`.
    """
    cell = _CELL.fullmatch(address)
    if cell is None:
        return storage.fetch(address)
    return _cell(cell[1], cell[3], int(cell[2]), *(json.loads(cell[4]) if cell[4] else (None, None)))


def _cell(uri: str, column: str, row: int, name_column: str | None, name: str | None) -> bytes:
    with closing(read_cells(uri, column, {row: name}, name_column)) as cells:
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
    table: pq.ParquetFile,
    group: int,
    columns: list[str],
    named: tuple[str, str | None],
    start: int,
    wanted: Sequence[int],
) -> Iterator[tuple[int, bytes | str | None, str | None]]:
    remaining = list(reversed(wanted))
    for batch in table.iter_batches(_BATCH_ROWS, row_groups=[group], columns=columns):
        cells, names = (batch.column(one) if one in batch.schema.names else None for one in named)
        if cells is None:
            raise pa.ArrowInvalid(f"there is no column {columns[0]}")
        while remaining and remaining[-1] < start + len(cells):
            row = remaining.pop()
            name = None if names is None else names[row - start].as_py()
            yield row, _content(cells[row - start].as_py()), None if name is None else str(name)
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
    """Whether cells of a type are bytes, in any layout."""
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
