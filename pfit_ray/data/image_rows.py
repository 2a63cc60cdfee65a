"""Encoded images in a column of a Parquet file."""

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

IMAGE_COLUMNS = ("image", "bytes", "jpg")
_BYTES_FIELD = "bytes"
_BATCH_ROWS = 16


def image_column(schema: pa.Schema, wanted: str | None) -> str | None:
    """Path of the column that holds encoded images.

    Args:
        schema: of the Parquet file.
        wanted: its name; None takes the first of `image`, `bytes` and `jpg`.

    Returns:
        The name of a binary column, `NAME.bytes` for a struct with such a field, as Hugging Face datasets writes
        it, or None where there is no such column.
    """
    for name in IMAGE_COLUMNS if wanted is None else (wanted,):
        if name not in schema.names:
            continue
        kind = schema.field(name).type
        if _is_binary(kind):
            return name
        if pa.types.is_struct(kind) and any(
            field.name == _BYTES_FIELD and _is_binary(field.type) for field in (kind[i] for i in range(len(kind)))
        ):
            return f"{name}.{_BYTES_FIELD}"
    return None


def read_image_rows(file: BinaryIO, column: str, rows: Sequence[int]) -> Iterator[tuple[int, bytes | None]]:
    """Images of some rows of a Parquet file, each row group read once, its other columns not at all.

    Args:
        file: the Parquet file, seekable.
        column: as `image_column` gives it.
        rows: ascending row numbers from 0; those that the file does not have are left out.

    Yields:
        Row number and bytes; None where the cell is null.

    Raises:
        pyarrow.ArrowException: when the file is damaged or has no such column.
    """
    table = pq.ParquetFile(file, pre_buffer=False)
    start = 0
    for group in range(table.num_row_groups):
        end = start + table.metadata.row_group(group).num_rows
        wanted = [row for row in rows if start <= row < end]
        if wanted:
            yield from _read_group(table, group, column, start, wanted)
        start = end


def _read_group(
    table: pq.ParquetFile, group: int, column: str, start: int, wanted: Sequence[int]
) -> Iterator[tuple[int, bytes | None]]:
    remaining = list(reversed(wanted))
    for batch in table.iter_batches(_BATCH_ROWS, row_groups=[group], columns=[column]):
        if not batch.num_columns:
            raise pa.ArrowInvalid(f"there is no column {column}")
        cells = batch.column(0)
        if pa.types.is_struct(cells.type):
            cells = cells.field(_BYTES_FIELD)
        while remaining and remaining[-1] < start + len(cells):
            row = remaining.pop()
            yield row, cells[row - start].as_py()
        start += len(cells)
        if not remaining:
            return


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
