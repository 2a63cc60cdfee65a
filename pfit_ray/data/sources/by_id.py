"""Files, members of tar files or rows of Parquet files that were made elsewhere, found by image id."""

import json
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, BinaryIO, Literal

import pyarrow.parquet as pq

from pfit_ray import storage
from pfit_ray.data.image_bytes import read_tar_member
from pfit_ray.data.sources.files import find_files
from pfit_ray.data.sources.spill import TextMap
from pfit_ray.data.sources.tar import in_header, plain_members
from pfit_ray.errors import RowError, UserError
from pfit_ray.storage import Entry
from pfit_ray.storage.ranges import open_for_rows

Found = bytes | dict[str, Any]
"""The bytes of a file, or the cells of a row by column."""

Form = Literal["files", "tar", "parquet"]

_BATCH_ROWS = 16
_INDEXES = 16
"""Indexes that a process keeps, because its workers come and go with the shards."""


class ById(ABC):
    """Things by image id at one place."""

    def setup(self) -> None:  # noqa: B027 - single files need no index
        """Find what there is."""

    @abstractmethod
    def fetch(self, image_id: str) -> Found:
        """What there is of an image.

        Raises:
            RowError: `missing` where there is nothing, `bad_file` where its file is damaged, else like `storage.fetch`.
        """


def open_by_id(
    url: str, form: Form | None, suffixes: tuple[str, ...], id_column: str, columns: tuple[str, ...]
) -> ById:
    """What lies at a place, by image id.

    Tar and Parquet files are found when `setup` is called; their members and ids are then listed once in each
    process, in a temporary table (`pfit_ray.data.sources.spill`): headers of all members, or the id columns, are read.

    Args:
        url: a folder or URL prefix, a file, or a glob.
        form: what lies there; None goes by the ending of the URL.
        suffixes: endings of single files and of members, such as ".png"; the first that an id has counts.
        id_column: Parquet: the column of image ids.
        columns: Parquet: the columns that are wanted.
    """
    place = storage.absolute(url)
    if form == "tar" or (form is None and url.lower().endswith(".tar")):
        return _Tars(place, suffixes)
    if form == "parquet" or (form is None and url.lower().endswith(".parquet")):
        return _Tables(place, id_column, columns)
    return _Files(place, suffixes)


class _Files(ById):
    def __init__(self, folder: str, suffixes: tuple[str, ...]) -> None:
        self.folder = folder
        self.suffixes = suffixes

    def fetch(self, image_id: str) -> Found:
        for suffix in self.suffixes[:-1]:
            try:
                return self._read(image_id + suffix)
            except RowError as error:
                if error.reason != "missing":
                    raise
        return self._read(image_id + self.suffixes[-1])

    def _read(self, name: str) -> bytes:
        url = storage.join(self.folder, name)
        data = storage.fetch(url)
        if (other := storage.other_case(url)) is not None:
            raise RowError("missing", f"{url} does not exist, but {other}, which is another image's")
        return data


class _Tars(ById):
    def __init__(self, place: str, suffixes: tuple[str, ...]) -> None:
        self.place = place
        self.suffixes = suffixes

    def setup(self) -> None:
        _tar_index(self.place, self.suffixes)

    def fetch(self, image_id: str) -> Found:
        place = self._place(image_id)
        try:
            return read_tar_member(*place)
        except RowError as error:
            if error.reason != "bad_file":
                raise
        _tar_index.cache_clear()  # the file has been written anew since it was listed
        return read_tar_member(*self._place(image_id))

    def _place(self, image_id: str) -> tuple[str, str | None, int, int]:
        url, name, offset, size = _found(_tar_index(self.place, self.suffixes), self.place, image_id)
        return url, name, offset, size


class _Tables(ById):
    def __init__(self, place: str, id_column: str, columns: tuple[str, ...]) -> None:
        self.place = place
        self.id_column = id_column
        self.columns = columns

    def setup(self) -> None:
        _table_index(self.place, self.id_column, self.columns)

    def fetch(self, image_id: str) -> Found:
        for _ in range(2):
            url, row = _found(_table_index(self.place, self.id_column, self.columns), self.place, image_id)
            with open_for_rows(url) as file:
                cells = _cells(file, (*dict.fromkeys((*self.columns, self.id_column)),), row)
            if cells is not None and str(cells[self.id_column]) == image_id:
                return {name: cells[name] for name in self.columns}
            _table_index.cache_clear()  # the file has been written anew since it was listed
        raise RowError("bad_file", f"{url} changed while it was read: row {row} is no longer {image_id!r}")


class _Index:
    """The place of each id, and the files that could not be listed to their end."""

    def __init__(self, places: Iterator[tuple[str, str]], damaged: list[str]) -> None:
        self.places = TextMap(places)
        self.damaged = damaged


def _found(index: _Index, place: str, image_id: str) -> list[Any]:
    found = index.places.get(image_id)
    if found and found[0] is not None:
        where: list[Any] = json.loads(found[0])
        return where
    if index.damaged:
        raise RowError("bad_file", f"{place} has nothing for image {image_id!r} before its damage: {index.damaged[0]}")
    raise RowError("missing", f"{place} has nothing for image {image_id!r}")


@lru_cache(_INDEXES)
def _tar_index(place: str, suffixes: tuple[str, ...]) -> _Index:
    damaged: list[str] = []

    def places() -> Iterator[tuple[str, str]]:
        for entry in _files(place, ".tar"):
            try:
                with open_for_rows(entry.url, entry.size) as file:
                    for member in plain_members(file):
                        name = member.name.rpartition("/")[2]
                        if name.lower().endswith(suffixes):
                            where = [entry.url, in_header(file, member), member.offset_data, member.size]
                            yield name.rpartition(".")[0], json.dumps(where)
            except tarfile.TarError as error:
                damaged.append(f"{entry.url} is damaged: {error}")
            except RowError as error:
                damaged.append(error.message)

    return _Index(places(), damaged)


@lru_cache(_INDEXES)
def _table_index(place: str, id_column: str, columns: tuple[str, ...]) -> _Index:
    damaged: list[str] = []

    def places() -> Iterator[tuple[str, str]]:
        for entry in _files(place, ".parquet"):
            try:
                with open_for_rows(entry.url, entry.size) as file:
                    yield from _ids(pq.ParquetFile(file, pre_buffer=False), entry.url, id_column, columns)
            except RowError as error:
                damaged.append(error.message)

    return _Index(places(), damaged)


def _files(place: str, suffix: str) -> Iterator[Entry]:
    found = False
    for _, entry in find_files(place, (suffix,), "options.url of a source"):
        found = True
        yield entry
    if not found:
        raise UserError(
            f"config: options.url of a source: {place} holds no {suffix} file; check the URL and options.form"
        )


def _ids(table: pq.ParquetFile, url: str, id_column: str, columns: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    lacking = [name for name in (id_column, *columns) if name not in table.schema_arrow.names]
    if lacking:
        raise UserError(
            f"config: options.url of a source: {url} has the columns {', '.join(table.schema_arrow.names)}, but not "
            f"{lacking[0]!r}; name the right one in the source's options"
        )
    number = 0
    for batch in table.iter_batches(columns=[id_column]):
        for value in batch.column(0).to_pylist():
            yield str(value), json.dumps([url, number])
            number += 1


def _cells(file: BinaryIO, columns: tuple[str, ...], row: int) -> dict[str, Any] | None:
    """The cells of one row, if there is such a row; of its row group the other columns are not read."""
    table = pq.ParquetFile(file, pre_buffer=False)
    start = 0
    for group in range(table.num_row_groups):
        end = start + table.metadata.row_group(group).num_rows
        if row < end:
            for batch in table.iter_batches(_BATCH_ROWS, row_groups=[group], columns=list(columns)):
                if row < start + len(batch):
                    cells: dict[str, Any] = batch.slice(row - start, 1).to_pylist()[0]
                    return cells
                start += len(batch)
        start = end
    return None
