"""Source: Parquet files with a column of encoded images."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import repeat
from typing import Any

import pyarrow.parquet as pq

from pfit_ray.config.data import DataConfig
from pfit_ray.data.image_bytes import IMAGE_COLUMNS, image_column
from pfit_ray.data.sources.files import find_files
from pfit_ray.data.sources.item import Item, hashed_id, is_plain, path_id, printable
from pfit_ray.data.sources.label_table import LABEL_COLUMN, as_cell, cell_names
from pfit_ray.data.sources.labels import label_keys
from pfit_ray.data.sources.notes import Note, Notes
from pfit_ray.errors import RowError, UserError
from pfit_ray.storage import Entry
from pfit_ray.storage.ranges import open_for_rows
from pfit_ray.storage.threads import chain_ahead

ID_COLUMN = "image_id"
_BATCH_ROWS = 4096
_THREADS = 8


def list_parquet(data: DataConfig, notes: Notes) -> Iterator[Item]:
    """The images in the Parquet files of `data.root`, files sorted by path, rows in their order.

    Footers, ids and labels are read; the images later. An image's id is its cell in `data.id_column`, made safe
    where it is unsafe as a file name, else `STEM-ROW` (row from 0, 8 digits) for files at the top with a plain stem,
    and the same with a hash of the path for others. Column `classes` holds a text or list of class names; without it,
    and where it is null, the label is unknown. A damaged file is a failed row.

    Args:
        data: the source.
        notes: is told what is left out.

    Raises:
        UserError: when the folder, the image column or the id column is missing.
    """
    files = find_files(data.root or "", (".parquet",), notes=notes)
    streams = (partial(_items, data, path, entry) for path, entry in files)
    return notes.sift(chain_ahead(streams, _THREADS, _THREADS, _BATCH_ROWS))


def _items(data: DataConfig, path: str, entry: Entry) -> Iterator[Item | Note]:
    uri = printable(entry.url)
    try:
        with open_for_rows(entry.url, entry.size) as file:
            yield from _rows(data, path, uri, entry.version, pq.ParquetFile(file, pre_buffer=False))
    except RowError as error:
        message = f"not all images of this file are listed: {error.message}"
        yield Item(path_id(path), uri, None, None, error.reason, message, version=entry.version)


def _rows(data: DataConfig, path: str, uri: str, version: str | None, table: pq.ParquetFile) -> Iterator[Item | Note]:
    schema = table.schema_arrow
    column = image_column(schema, data.image_column)
    if column is None:
        wanted = data.image_column or "one of " + ", ".join(IMAGE_COLUMNS)
        raise UserError(
            f"data.image_column: {uri} has the columns {', '.join(map(repr, schema.names))}; none of them is {wanted} "
            "with bytes, or with a struct that has bytes"
        )
    id_column = data.id_column or (ID_COLUMN if ID_COLUMN in schema.names else None)
    if id_column is not None and id_column not in schema.names:
        raise UserError(
            f"data.id_column: {uri} has the columns {', '.join(map(repr, schema.names))}, not {id_column!r}"
        )
    read = [name for name in (id_column, LABEL_COLUMN) if name is not None and name in schema.names]
    for number, cells in enumerate(_cells(table, read)):
        given = None if id_column is None else cells[id_column]
        item = Item(_image_id(path, number, given), uri, row=number, column=column, version=version)
        try:
            names = cell_names(as_cell(cells.get(LABEL_COLUMN)), set(data.class_list.names))
            if names is not None:
                item = replace(item, keys=label_keys(names, data.class_list, data.unknown_classes == "ignore"))
        except RowError as error:
            item = replace(item, reason=error.reason, message=error.message)
        yield item


def _cells(table: pq.ParquetFile, columns: list[str]) -> Iterator[dict[str, Any]]:
    """The cells of some columns, row by row."""
    if not columns:
        yield from repeat({}, table.metadata.num_rows)
        return
    for batch in table.iter_batches(_BATCH_ROWS, columns=columns):
        yield from batch.to_pylist()


def _image_id(path: str, number: int, given: object) -> str:
    if given is not None and given != "":
        return str(given) if is_plain(str(given)) else hashed_id(str(given), str(given))
    name = f"{path.rpartition('.')[0]}-{number:08d}"
    return name if is_plain(name) else hashed_id(name, f"{path}-{number}")
