"""Image-level labels from a table: CSV, JSON lines or Parquet."""

import csv
import io
import json
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from pfit_ray import storage
from pfit_ray.errors import RowError, UserError

_log = logging.getLogger(__name__)
_SEPARATORS = re.compile(r"[;,|]")
_NAME_COLUMNS = ("image", "image_id")
_LABEL_COLUMN = "classes"

Cell = str | list[str] | None
"""The classes of one row: a text, a list of names, or nothing known."""


class LabelTable:
    """Rows of a label table by the name that they give their image.

    Column `image` (or `image_id`, if there is no such column) holds an image id, a file name, a relative path
    or a URI; column `classes` a list of names or a text of names. Several rows of one image are joined. An
    empty text or list means no foreground class; a null means that the label is unknown.

    Args:
        url: the table, ending in .csv, .jsonl or .parquet.

    Raises:
        UserError: when it is missing, damaged, or lacks these columns.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._cells: defaultdict[str, list[Cell]] = defaultdict(list)
        for name, cell in _read_rows(url):
            self._cells[name.removeprefix("./")].append(cell)
        self._used: set[str] = set()
        self._image_of: dict[str, str] = {}

    def names(self, image_id: str, path: str, uri: str, classes: Iterable[str]) -> list[str]:
        """Class names of one image.

        Args:
            image_id: its id.
            path: its path relative to the source's root.
            uri: its absolute path or URL.
            classes: the run's classes, by which texts are split.

        Raises:
            RowError: `no_label`, when no row, or only an ambiguous one, is about the image.
        """
        key = next((key for key in (uri, path, image_id) if key in self._cells), None)
        if key is None:
            stem, file = path.rpartition(".")[0], path.rpartition("/")[2]
            loose = (stem, file, stem.rpartition("/")[2])
            key = next((key for key in loose if key in self._cells), None)
            if key is None:
                raise RowError("no_label", f"{self.url} has no row for image {path!r}")
            first = self._image_of.setdefault(key, path)
            if first != path:
                raise RowError(
                    "no_label",
                    f"row {key!r} of {self.url} fits {first!r} and {path!r}; name images by relative path",
                )
        self._used.add(key)
        known = set(classes)
        names: list[str] = []
        for cell in self._cells[key]:
            if cell is None:
                raise RowError("no_label", f"row {key!r} of {self.url} has no value in column 'classes'")
            names += split_names(cell, known) if isinstance(cell, str) else cell
        return names

    def warn_unused(self) -> None:
        """Log how many rows named no image that was asked for."""
        unused = [name for name in self._cells if name not in self._used]
        if unused:
            _log.warning("%d rows of %s name no image, such as %r", len(unused), self.url, unused[0])


def split_names(text: str, known: set[str]) -> list[str]:
    """Class names in a text.

    The whole text, if it is a known class; else its parts between `;`, `,` or `|`; without these, its words,
    where neighbouring words that make up a known class stay together.
    """
    text = text.strip()
    if text in known:
        return [text]
    if _SEPARATORS.search(text):
        return [part.strip() for part in _SEPARATORS.split(text) if part.strip()]
    words, names = text.split(), []
    while words:
        length = next((n for n in range(len(words), 1, -1) if " ".join(words[:n]) in known), 1)
        names.append(" ".join(words[:length]))
        words = words[length:]
    return names


def _read_rows(url: str) -> Iterator[tuple[str, Cell]]:
    suffix = url.lower().rpartition(".")[2]
    reader = _READERS.get(suffix)
    if reader is None:
        raise UserError(f"data.labels: {url} must end in .csv, .jsonl or .parquet")
    if not storage.exists(url):
        raise UserError(f"data.labels: there is no file {url}")
    try:
        yield from reader(url, storage.read_bytes(url))
    except UnicodeDecodeError as error:
        raise UserError(f"data.labels: {url} is not UTF-8 text") from error
    except (csv.Error, pa.ArrowException) as error:
        raise UserError(f"data.labels: {url} is not a valid .{suffix} file: {error}") from error


def _read_csv(url: str, data: bytes) -> Iterator[tuple[str, Cell]]:
    reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), restkey="", strict=True)
    name_column = _name_column(url, reader.fieldnames or ())
    for row in reader:
        if "" in row:
            raise UserError(
                f"data.labels: {url}, line {reader.line_num} has more cells than the header; "
                "separate classes by ';' or put them into quotes"
            )
        yield _name(url, f"line {reader.line_num}", row[name_column]), row[_LABEL_COLUMN]


def _read_jsonl(url: str, data: bytes) -> Iterator[tuple[str, Cell]]:
    name_column = None
    for number, line in enumerate(io.StringIO(data.decode("utf-8-sig")), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"data.labels: {url}, line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise UserError(f"data.labels: {url}, line {number} is not a JSON object")
        if name_column is None:
            name_column = _name_column(url, row)
        yield _name(url, f"line {number}", row.get(name_column)), _cell(row.get(_LABEL_COLUMN))


def _read_parquet(url: str, data: bytes) -> Iterator[tuple[str, Cell]]:
    file = pq.ParquetFile(pa.BufferReader(data))
    name_column = _name_column(url, file.schema_arrow.names)
    number = 0
    for batch in file.iter_batches(columns=[name_column, _LABEL_COLUMN]):
        for row in batch.to_pylist():
            number += 1
            yield _name(url, f"row {number}", row[name_column]), _cell(row[_LABEL_COLUMN])


_READERS: dict[str, Callable[[str, bytes], Iterator[tuple[str, Cell]]]] = {
    "csv": _read_csv,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}


def _name_column(url: str, columns: Iterable[str]) -> str:
    columns = list(columns)
    name = next((name for name in _NAME_COLUMNS if name in columns), None)
    if name is None or _LABEL_COLUMN not in columns:
        raise UserError(
            f"data.labels: {url} has the columns {', '.join(map(repr, columns)) or 'none'}; needed are "
            "'image' or 'image_id', and 'classes'"
        )
    return name


def _name(url: str, place: str, value: object) -> str:
    if value is None or value == "":
        raise UserError(f"data.labels: {url}, {place} names no image")
    return str(value)


def _cell(value: object) -> Cell:
    if value is None or isinstance(value, str):
        return value
    return [str(name) for name in value] if isinstance(value, list) else [str(value)]
