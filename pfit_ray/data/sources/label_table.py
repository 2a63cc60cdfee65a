"""Image-level labels from a table: CSV, JSON lines or Parquet."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pfit_ray import storage
from pfit_ray.constants import ClassList
from pfit_ray.data.sources.files import find_files
from pfit_ray.data.sources.labels import LABEL_COLUMN, Cell, as_cell, cell_names, find_class, folded
from pfit_ray.data.sources.notes import Notes
from pfit_ray.data.sources.rows import TABLES, Row, read_rows
from pfit_ray.data.sources.spill import TextMap
from pfit_ray.errors import RowError, UserError

IMAGE_NAMES = ("file_name", "filename", "image_path", "filepath", "file_path", "image_name", "path", "file", "img")
"""Other names of the column `image`."""
LABEL_NAMES = ("labels", "label", "class", "class_name", "class_names", "category", "categories", "tags")
"""Other names of the column `classes`."""
_NAME_COLUMNS = ("image", "image_id", *IMAGE_NAMES)
_ZERO_OR_ONE = {
    **dict.fromkeys(("0", "0.0", "false", "f", "no", "n"), False),
    **dict.fromkeys(("1", "1.0", "true", "t", "yes", "y"), True),
}
_MOST_COLUMNS = 300


def find_column(columns: Iterable[str], names: Sequence[str]) -> str | None:
    """The column that has the first of some names, exactly or up to case, blanks, hyphens and underscores."""
    columns = list(columns)
    alike = {_bare(column): column for column in reversed(columns)}
    return next((found for name in names if (found := name if name in columns else alike.get(_bare(name)))), None)


def _bare(name: str) -> str:
    return re.sub(r"[\s_-]", "", name.lower())


class LabelColumns:
    """Finds the classes in a table's rows: in one column, or in a column of 0 and 1 for each class.

    Args:
        columns: the table's columns.
        taken: those with another use.
        classes: the run's classes.
        url: the table.
    """

    def __init__(self, columns: Sequence[str], taken: Iterable[str], classes: ClassList, url: str) -> None:
        self.url = url
        self.classes = classes
        free = [column for column in columns if column not in set(taken)]
        self.one = find_column(free, (LABEL_COLUMN,))
        self.alike = [column for column in free if find_column((column,), LABEL_NAMES)]
        self.by_class: dict[str, str] = {}
        if self.one is None:
            found = {column: find_class(column, classes) for column in free}
            self.by_class = {column: classes.name(key) for column, key in found.items() if key is not None}
        others = free[:_MOST_COLUMNS] if self.by_class else []
        self._others = {column: 0 for column in others if column not in self.by_class}

    def read(self, column: str) -> None:
        """Take a column as that of the classes."""
        self.one, self.by_class = column, {}

    @property
    def wanted(self) -> list[str]:
        """The columns that are read."""
        return [*self.by_class, *self._others] if self.one is None else [self.one]

    def cell(self, row: Row) -> Cell:
        """The classes of a row; None where they are unknown.

        Raises:
            RowError: `no_label`, where a column of a class holds something else than 0 or 1.
        """
        if not self.by_class:
            return as_cell(row.get(self.one)) if self.one is not None else None
        cells = {name: row.get(column) for column, name in self.by_class.items()}
        if all(cell is None or cell == "" for cell in cells.values()):
            return None
        flags = {name: _flag(cell) for name, cell in cells.items()}
        for name, flag in flags.items():
            if flag is None:
                raise RowError(
                    "no_label",
                    f"{self.url}: column {name!r} holds {cells[name]!r}, which is not 0 or 1; write 1 "
                    "where the class is in the image and 0 where it is not",
                )
        for column in list(self._others):
            flag = _flag(row.get(column))
            if flag is None:
                del self._others[column]
            else:
                self._others[column] += flag
        return [name for name, flag in flags.items() if flag]

    def note(self, notes: Notes) -> None:
        """Note the columns that may hold labels but were not read, and the classes without a column."""
        if not self.by_class:
            remedy = f"name the one with the classes {LABEL_COLUMN!r}"
            for column in self.alike:
                if column != self.one:
                    notes.add(f"columns of {self.url} that look like labels and were not read", column, remedy)
            return
        for column, count in self._others.items():
            if count:
                notes.add(
                    f"rows of {self.url} with 1 in the column {column!r}, which was not read, because "
                    "data.classes does not list it",
                    count=count,
                )
        lacking = [name for name in self.classes.names if name not in set(self.by_class.values())]
        if lacking:
            notes.add(f"classes of data.classes without a column in {self.url}", lacking[0], count=len(lacking))


def _flag(cell: object) -> bool | None:
    return _ZERO_OR_ONE.get(str(cell).strip().lower())


class LabelTable:
    """Rows of a label table by the name that they give their image.

    Column `image` (else `image_id`, or another of its names) holds an image id, a file name, a relative path or a URI.
    Column `classes` (or another of its names) holds a list or a text of class names, or there is a column of 0 and 1
    for each class. Several rows of one image are joined. An empty text or list means no foreground class; a null means
    that the label is unknown. Backslashes in paths count as slashes.

    The table lies in a temporary file, not in memory; see `pfit_ray.data.sources.spill`.

    Args:
        url: the table, ending in .csv, .tsv, .jsonl or .parquet, or a pattern of several ones (`label_files`), each of
            which names the images of its own folder, if it lies below the root.
        classes: the run's classes.
        notes: gets the columns and rows that are not used.
        root: folder of the images.

    Raises:
        UserError: when it is missing, damaged, or lacks these columns.
    """

    def __init__(self, url: str, classes: ClassList, notes: Notes, root: str = "") -> None:
        self.url = url
        self.notes = notes
        self._known = set(classes.names)
        files = [storage.absolute(file) for file in label_files(url)]
        if not files:
            raise UserError(f"data.labels: no table ({', '.join(TABLES)}) matches the pattern {url}")
        folders = [file.rpartition("/")[0].removeprefix(storage.absolute(root)) for file in files]
        several = len(files) > 1
        within = [
            folder.strip("/") if several and folder != file.rpartition("/")[0] else ""
            for file, folder in zip(files, folders, strict=True)
        ]
        self._cells = TextMap(
            (f"{folder}/{name}" if folder and not name.startswith(f"{folder}/") else name, cell)
            for file, folder in zip(files, within, strict=True)
            for name, cell in _read_labels(file, classes, notes)
        )

    def names(self, image_id: str, path: str, uri: str) -> list[str]:
        """Class names of one image.

        Args:
            image_id: its id.
            path: its path relative to the source's root.
            uri: its absolute path or URL.

        Raises:
            RowError: `no_label`, when no row names the image, or only an ambiguous one.
        """
        name = folded(path)
        stem, file = name.rpartition(".")[0], name.rpartition("/")[2]
        exact, loose = (folded(uri), name, image_id), (stem, file, stem.rpartition("/")[2])
        key, cells = self._find(exact)
        if key:
            self._cells.claim(key)
        else:
            key, cells = self._find(loose)
            if not key:
                raise RowError("no_label", f"{self.url} has no row for image {path!r}")
            first = self._cells.claim(key, path)
            if first != path:
                raise RowError(
                    "no_label",
                    f"row {key!r} of {self.url} fits {first!r} and {path!r}; name images by relative path",
                )
        names: list[str] = []
        for cell in cells:
            told = None if cell is None else json.loads(cell)
            if isinstance(told, dict):
                raise RowError(told["reason"], told["message"])
            found = cell_names(told, self._known)
            if found is None:
                raise RowError("no_label", f"row {key!r} of {self.url} has no value in column 'classes'")
            names += found
        return names

    def note_unused(self) -> None:
        """Note how many rows name no image of the source."""
        count, first = self._cells.unclaimed()
        if count:
            remedy = "name images by their path below data.root, or by their id"
            self.notes.add(f"rows of {self.url} that name no image", first, remedy, count)

    def _find(self, keys: Iterable[str]) -> tuple[str, list[str | None]]:
        """The first of some keys that the table has, and its cells; an empty key if it has none."""
        return next(((key, cells) for key in keys if (cells := self._cells.get(key))), ("", []))


def label_files(place: str) -> list[str]:
    """The tables that `data.labels` names: a file, or all that fit a pattern, such as `DATA/*/_classes.csv`."""
    if not set("*?[") & set(place) or storage.exists(storage.absolute(place)):
        return [place]
    return [entry.url for _, entry in find_files(place, TABLES, "data.labels")]


def _read_labels(url: str, classes: ClassList, notes: Notes) -> Iterator[tuple[str, str | None]]:
    """Name and cell, as JSON, of each row; an object says why there is no cell."""
    name_column, labels = "", LabelColumns((), (), classes, url)

    def choose(columns: Sequence[str]) -> Sequence[str] | str:
        nonlocal name_column, labels
        name_column = find_column(columns, _NAME_COLUMNS) or ""
        labels = LabelColumns(columns, [name_column], classes, url)
        if labels.one is None and not labels.by_class and len(labels.alike) == 1:
            labels.read(labels.alike[0])
        if name_column and labels.wanted:
            return [name_column, *labels.wanted]
        return "'image' or 'image_id', and 'classes' or a column of 0 and 1 for each class"

    for place, row in read_rows(url, "data.labels", choose):
        name: Any = row.get(name_column)
        if name is None or name == "":
            raise UserError(f"data.labels: {url}, {place} names no image")
        if "\\" in str(name):
            notes.add(f"Windows paths of {url}, read with / for \\", str(name))
        try:
            cell = labels.cell(row)
            yield folded(str(name)), None if cell is None else json.dumps(cell)
        except RowError as error:
            yield folded(str(name)), json.dumps({"reason": error.reason, "message": error.message})
    labels.note(notes)
