"""Image-level labels from a table: CSV, JSON lines or Parquet."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence

from pfit_ray.data.sources.notes import Notes
from pfit_ray.data.sources.rows import read_rows
from pfit_ray.data.sources.spill import TextMap
from pfit_ray.errors import RowError, UserError

_SEPARATORS = re.compile(r"[;,|]")
_NAME_COLUMNS = ("image", "image_id")
LABEL_COLUMN = "classes"

Cell = str | list[str] | None
"""The classes of one row: a text, a list of names, or nothing known."""


class LabelTable:
    """Rows of a label table by the name that they give their image.

    Column `image` (or `image_id`, if there is no such column) holds an image id, a file name, a relative path
    or a URI; column `classes` a list of names or a text of names. Several rows of one image are joined. An
    empty text or list means no foreground class; a null means that the label is unknown.

    The table is not held in memory but in a temporary file; see `pfit_ray.data.sources.spill`.

    Args:
        url: the table, ending in .csv, .jsonl or .parquet.

    Raises:
        UserError: when it is missing, damaged, or lacks these columns.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._cells = TextMap(_read_labels(url))

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
        stem, file = path.rpartition(".")[0], path.rpartition("/")[2]
        exact, loose = (uri, path, image_id), (stem, file, stem.rpartition("/")[2])
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
        known = set(classes)
        names: list[str] = []
        for cell in cells:
            found = None if cell is None else cell_names(json.loads(cell), known)
            if found is None:
                raise RowError("no_label", f"row {key!r} of {self.url} has no value in column 'classes'")
            names += found
        return names

    def note_unused(self, notes: Notes) -> None:
        """Note how many rows named no image that was asked for."""
        count, first = self._cells.unclaimed()
        if count:
            notes.add(f"rows of {self.url} that name no image", first, count=count)

    def _find(self, keys: Iterable[str]) -> tuple[str, list[str | None]]:
        """The first of some keys that the table has, and its cells; an empty key where it has none."""
        return next(((key, cells) for key in keys if (cells := self._cells.get(key))), ("", []))


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


def cell_names(cell: Cell, known: set[str]) -> list[str] | None:
    """Class names in a cell of column `classes`; None where the label is unknown."""
    return split_names(cell, known) if isinstance(cell, str) else cell


def as_cell(value: object) -> Cell:
    """A value of column `classes`: a text, a list, or one name of another type, such as a number."""
    if value is None or isinstance(value, str):
        return value
    return [str(name) for name in value] if isinstance(value, list) else [str(value)]


def _needed(columns: Sequence[str]) -> str | None:
    if LABEL_COLUMN in columns and any(name in columns for name in _NAME_COLUMNS):
        return None
    return "'image' or 'image_id', and 'classes'"


def _read_labels(url: str) -> Iterator[tuple[str, str | None]]:
    """Name and cell, as JSON, of each row."""
    name_column = None
    for place, row in read_rows(url, "data.labels", (*_NAME_COLUMNS, LABEL_COLUMN), _needed):
        if name_column is None:
            name_column = next(name for name in _NAME_COLUMNS if name in row)
        name = row.get(name_column)
        if name is None or name == "":
            raise UserError(f"data.labels: {url}, {place} names no image")
        cell = as_cell(row.get(LABEL_COLUMN))
        yield str(name).removeprefix("./"), None if cell is None else json.dumps(cell)
