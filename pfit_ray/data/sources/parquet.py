"""Source: Parquet files with a column of encoded images."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pfit_ray.config.data import DataConfig
from pfit_ray.data.image_bytes import IMAGE_COLUMNS, MASK_COLUMNS, cell_address, image_column
from pfit_ray.data.sources.files import find_files
from pfit_ray.data.sources.item import Item, hashed_id, is_plain, path_id, printable
from pfit_ray.data.sources.label_table import LABEL_COLUMN, LabelColumns, as_cell, cell_names
from pfit_ray.data.sources.labels import labelled
from pfit_ray.data.sources.notes import Note, Notes
from pfit_ray.data.sources.rows import class_label_names, features, is_text, named_classes
from pfit_ray.errors import RowError, UserError
from pfit_ray.storage import Entry
from pfit_ray.storage.ranges import open_for_rows
from pfit_ray.storage.threads import chain_ahead

ID_COLUMN = "image_id"
CLASSES_METADATA = b"pfit_ray.classes"
"""Key of a Parquet file's metadata: the names of the classes of its label maps, as JSON, in the order of their ids."""
_LABEL_COLUMNS = (LABEL_COLUMN, "label", "labels")
_LABEL_LIKE = (*_LABEL_COLUMNS, "class", "class_name", "category", "categories", "tags", "target")
_BATCH_ROWS = 4096
_MASK_ROWS = 64
_THREADS = 8


@dataclass(frozen=True)
class _Columns:
    """What is read of a Parquet file.

    Args:
        image: column of the images, as `image_column` gives it.
        image_id: column of their ids.
        label: column of their labels, and below it the fields that lead to them.
        names: class names by number, where the labels are numbers.
        mask: column of their ground truth, as `image_column` gives it.
        flags: columns of 0 and 1 for each class, where no column holds the labels.
    """

    image: str
    image_id: str | None
    label: tuple[str, ...]
    names: tuple[str, ...] | None
    mask: str | None
    flags: LabelColumns | None


def list_parquet(data: DataConfig, notes: Notes) -> Iterator[Item]:
    """The images in the Parquet files of `data.root`, files sorted by path, rows in their order.

    Footers, ids and labels are read now, the images later. An image's id is its cell in `data.id_column`, made safe if
    it is unsafe as a file name. Without that column it is `STEM-ROW` (row from 0, 8 digits) for files at the top with a
    plain stem, and the same with a hash of the path for others. A damaged file is a failed row.

    Labels are texts or lists of class names, or numbers that the metadata of Hugging Face's datasets give names. They
    are in `data.label_column`, else in `classes`, `label` or `labels`, else in the only column with such numbers,
    else in a column of 0 and 1 for each class. Without such columns, and where it is null or -1, the label is unknown.
    Ground truth is the PNG in `data.mask_column`, else in `mask` or `label` where these hold images.

    Args:
        data: the source.
        notes: gets what is left out, and the columns that look like labels or images and are not read.

    Raises:
        UserError: when the folder or a column is missing, or a file's label maps number the classes otherwise.
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
    columns = _columns(data, uri, schema)
    yield from _unread(columns, uri, schema, table.metadata.num_rows)
    masked = repeat(False) if columns.mask is None else _filled(table, columns.mask)
    flags = columns.flags.wanted if columns.flags else []
    read = [name for name in (columns.image_id, *columns.label[:1], *flags) if name is not None]
    for number, (cells, has_mask) in enumerate(zip(_cells(table, read), masked, strict=False)):
        given = None if columns.image_id is None else cells[columns.image_id]
        named = columns.image_id, None if given is None else str(given)
        mask_uri = cell_address(uri, columns.mask, number, *named) if has_mask and columns.mask else None
        place: dict[str, Any] = {"row": number, "column": columns.image, "name_column": named[0], "name": named[1]}
        item = Item(_image_id(path, number, given), uri, mask_uri=mask_uri, version=version, **place)
        yield labelled(item, data, partial(_class_names, columns, cells, data.class_list.names))
    if columns.flags:
        columns.flags.note(notes := Notes())
        yield from notes


def _columns(data: DataConfig, uri: str, schema: pa.Schema) -> _Columns:
    def lacks(field: str, wanted: str) -> UserError:
        found = ", ".join(map(repr, schema.names))
        return UserError(f"data.{field}: {uri} has the columns {found}; none of them is {wanted}")

    image = image_column(schema, data.image_column)
    if image is None and data.image_column is None:
        features = [name for name, kind in _features(schema).items() if kind == "Image" and name not in MASK_COLUMNS]
        image = image_column(schema, None, features) if len(features) == 1 else None
    if image is None:
        wanted = data.image_column or "one of " + ", ".join(IMAGE_COLUMNS)
        kinds = [str(schema.field(name).type) for name in (data.image_column, *IMAGE_COLUMNS) if name in schema.names]
        what = f"; {kinds[0]} is neither, and a table of paths is for source table" if kinds else ""
        raise lacks("image_column", f"{wanted} with bytes, or with a struct that has bytes{what}")
    id_column = data.id_column or (ID_COLUMN if ID_COLUMN in schema.names else None)
    if id_column is not None and id_column not in schema.names:
        raise lacks("id_column", repr(id_column))
    mask = image_column(schema, data.mask_column, [name for name in MASK_COLUMNS if name != image.split(".")[0]])
    if data.mask_column and mask is None:
        raise lacks("mask_column", f"{data.mask_column!r} with PNGs")
    if mask is not None:
        _check_numbering(data, uri, schema)
    label, names = _label(data, schema)
    if label is None:
        raise lacks("label_column", repr(data.label_column))
    if (
        label
        and names is None
        and _is_number(_leaf(schema, label))
        and not any(map(str.isdecimal, data.class_list.names))
    ):
        raise UserError(
            f"data.label_column: {uri} has numbers in column {'.'.join(label)!r}, and its metadata do not name their "
            "classes; name a column of class names, or set '' to predict the labels"
        )
    flags = None
    if not label and data.label_column is None:
        taken = [image.split(".")[0], id_column or "", (mask or "").split(".")[0]]
        numbers = [one.name for one in schema if _is_number(one.type) or pa.types.is_boolean(one.type)]
        flags = LabelColumns(numbers, taken, data.class_list, uri)
    return _Columns(image, id_column, label, names, mask, flags if flags and flags.by_class else None)


def _check_numbering(data: DataConfig, uri: str, schema: pa.Schema) -> None:
    told = (schema.metadata or {}).get(CLASSES_METADATA)
    names = None if told is None else json.loads(told)
    if names is not None and tuple(names) != data.class_list.names:
        raise UserError(
            f"data.classes: the label maps of {uri} have the classes {', '.join(names)} in this order, unlike "
            "data.classes; set data.classes to these, or data.mask_column to ''"
        )


def _label(data: DataConfig, schema: pa.Schema) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """Column and fields of the labels, none where there are none, and names of its numbers; None: it is missing."""
    named = class_label_names(schema)
    if data.label_column is not None:
        wanted = tuple(data.label_column.split(".")) if data.label_column else ()
        if data.label_column in schema.names:
            wanted = (data.label_column,)
        inside = [path for path in named if path[: len(wanted)] == wanted] if wanted else []
        if len(inside) == 1:
            return inside[0], named[inside[0]]
        return (wanted if not wanted or wanted in {(name,) for name in schema.names} else None), None
    for name in _LABEL_COLUMNS:
        if (name,) in named:
            return (name,), named[(name,)]
        if name in schema.names and (name == LABEL_COLUMN or is_text(schema.field(name).type)):
            return (name,), None
    return next(iter(named.items())) if len(named) == 1 else ((), None)


def _unread(columns: _Columns, uri: str, schema: pa.Schema, rows: int) -> Iterator[Note]:
    """Notes on columns that look like labels or images and are not read."""
    read = {columns.image.split(".")[0], columns.image_id, *columns.label[:1], (columns.mask or "").split(".")[0]}
    like = [path for path in class_label_names(schema) if path != columns.label]
    like += [(name,) for name in _LABEL_LIKE if name in schema.names and name not in read and (name,) not in like]
    for path in like:
        column = ".".join(path)
        if image_column(schema, path[0]) is None:
            remedy = f"set data.label_column to {column} if it holds the labels"
            yield Note(f"rows whose column {column!r} looks like a label and is not read", uri, remedy, rows)
    for name in schema.names:
        if name not in read and image_column(schema, name) is not None:
            remedy = f"set data.mask_column to {name} if it holds the ground truth"
            yield Note(f"rows whose column {name!r} holds images and is not read", uri, remedy, rows)


def _class_names(columns: _Columns, cells: dict[str, Any], known: Sequence[str]) -> list[str] | None:
    """The class names of a row; None where its label is unknown."""
    if columns.flags:
        return cell_names(columns.flags.cell(cells), set(known))
    if not columns.label:
        return None
    cell = cells[columns.label[0]]
    if columns.names is not None:
        return named_classes(cell, columns.label[1:], columns.names)
    return cell_names(as_cell(cell), set(known))


def _filled(table: pq.ParquetFile, column: str) -> Iterator[bool]:
    """Whether each row has bytes, or a path to them, in a column; row groups without nulls are not read."""
    name = column.partition(".")[0]
    for number in range(table.num_row_groups):
        group = table.metadata.row_group(number)
        chunks = map(group.column, range(group.num_columns))
        known = next((one.statistics for one in chunks if one.path_in_schema == column), None)
        if known is not None and known.has_null_count and not known.null_count:
            yield from repeat(True, group.num_rows)
            continue
        for batch in table.iter_batches(_MASK_ROWS, row_groups=[number], columns=[name]):
            for cell in batch.column(0).to_pylist():
                yield any(cell.values()) if isinstance(cell, dict) else bool(cell)


def _features(schema: pa.Schema) -> dict[str, str]:
    """What Hugging Face's datasets call the kinds of the columns."""
    return {name: str(feature.get("_type")) for name, feature in features(schema).items() if isinstance(feature, dict)}


def _leaf(schema: pa.Schema, path: Sequence[str]) -> pa.DataType:
    kind = schema.field(path[0]).type
    while pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return kind


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


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
