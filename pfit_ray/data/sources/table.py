"""Source: a table that names the images, CSV, JSON lines or Parquet."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, groupby, islice

from pfit_ray import storage
from pfit_ray.config.data import DataConfig
from pfit_ray.data.sources.item import Item, hashed_id, is_plain, path_id
from pfit_ray.data.sources.label_table import IMAGE_NAMES, LabelColumns, find_column
from pfit_ray.data.sources.labels import as_cell, cell_names, label_keys, labelled
from pfit_ray.data.sources.notes import Notes
from pfit_ray.data.sources.rows import Row, read_rows
from pfit_ray.data.sources.spill import SeenTexts
from pfit_ray.errors import RowError, UserError

IMAGE_COLUMNS = ("image", "uri", *IMAGE_NAMES, "url", "image_url")
_OTHERS = ("image_id", "mask", "size")
_PEEKED = 100
"""Rows that are read to tell whether a column holds classes."""
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def list_table(data: DataConfig, notes: Notes) -> Iterator[Item]:
    """The images that `data.table` names, in its order; the table is read as a stream.

    Column `image` (or `uri`, or another of its names) is an absolute path, a URL, or a path below `data.root`, or below
    the table's folder if there is no root; so is `mask`. The id is column `image_id`, made safe if it is unsafe as a
    file name; without that column it is the id that source folder gives the same path: the stem, or the path's
    characters and a hash if it has folders or other characters. `classes` is a text or list of class names, or there is
    a column of 0 and 1 for each class. If it is null or absent the label is unknown; if it is empty no foreground class
    is present. A column with another name is read if its first text names classes. `size` is the image's bytes.
    Consecutive rows of one image are joined, unless they give it different ids.

    Args:
        data: the source.
        notes: gets what is left out.

    Raises:
        UserError: when the table is missing or damaged, lacks the column, or a row names no image.
    """
    url = storage.absolute(data.table or "")
    root = storage.absolute(data.root) if data.root else url.rpartition("/")[0] or "/"
    column, labels = "", LabelColumns((), (), data.class_list, url)

    def choose(columns: Sequence[str]) -> Sequence[str] | str:
        nonlocal column, labels
        column = find_column(columns, IMAGE_COLUMNS) or ""
        labels = LabelColumns(columns, [column, *_OTHERS], data.class_list, url)
        return [column, *_OTHERS, *labels.wanted, *labels.alike] if column else "'image' or 'uri'"

    rows = read_rows(url, "data.table", choose)
    head = list(islice(rows, _PEEKED))
    _look_for_classes(labels, [row for _, row in head], data)
    seen = SeenTexts()
    for (image, given), group in groupby(chain(head, rows), lambda placed: (placed[1].get(column), _given(placed[1]))):
        together = list(group)
        image = image.get("path") if isinstance(image, dict) else image  # as `datasets` writes an image
        if not isinstance(image, str) or not image:
            raise UserError(f"data.table: {url}, {together[0][0]} names no image in column {column!r}")
        if len(together) > 1:
            notes.add(f"images of {url} with several rows, which were joined", image)
        if not seen.add(f"{image}\n{given}"):
            remedy = "put the rows of an image together; the first ones count, the others fail as bad_id"
            notes.add(f"images of {url} that have more rows further down", image, remedy)
        yield _item(data, root, image, [row for _, row in together], labels, notes)
    labels.note(notes)


def _look_for_classes(labels: LabelColumns, head: list[Row], data: DataConfig) -> None:
    """Read a column with another name than `classes` if it is the only candidate and its first text names classes."""
    if labels.one is not None or labels.by_class or len(labels.alike) != 1:
        return
    known = set(data.class_list.names)
    for row in head:
        try:
            names = cell_names(as_cell(row.get(labels.alike[0])), known)
            if names:
                label_keys(names, data.class_list, ignore_unknown=False)
                labels.read(labels.alike[0])
                return
        except RowError:
            return


def _item(data: DataConfig, root: str, image: str, rows: Sequence[Row], labels: LabelColumns, notes: Notes) -> Item:
    row = rows[0]
    uri = _resolved(root, image, notes)
    given = _given(row)
    if not given:
        image_id = path_id(uri.removeprefix(root.rstrip("/") + "/"))
    else:
        image_id = given if is_plain(given) else hashed_id(given, given)
    mask = row.get("mask")
    mask_uri = _resolved(root, mask, notes) if isinstance(mask, str) and mask else None
    item = Item(image_id, uri, mask_uri=mask_uri, size=_size(row.get("size")))
    if _DRIVE.match(image):
        return replace(
            item,
            reason="missing",
            message=f"{image!r} is a path of a Windows drive; name images by URL or by their path below data.root",
        )
    return labelled(item, data, lambda: _names((labels.cell(row) for row in rows), set(data.class_list.names)), notes)


def _given(row: Row) -> str:
    cell = row.get("image_id")
    return "" if cell is None else str(cell)


def _names(cells: Iterable, known: set[str]) -> list[str] | None:
    """The classes of all rows of an image; None where none of them knows any."""
    told = [names for cell in cells if (names := cell_names(cell, known)) is not None]
    return [name for names in told for name in names] if told else None


def _resolved(root: str, text: str, notes: Notes) -> str:
    storage.refuse_credentials(text)  # the manifest would keep them
    if "\\" in text:
        notes.add("Windows paths, read with / for \\", text)
        text = text.replace("\\", "/")
    if storage.is_local(text) and not text.startswith(("/", "~", "file://", "local://")):
        text = storage.join(root, text)
    place = storage.absolute(text)
    if not place.isascii() and not storage.exists(place):  # the same accents may be written in another form
        for form in ("NFC", "NFD"):
            if (other := unicodedata.normalize(form, place)) != place and storage.exists(other):
                return other
    return place


def _size(cell: object) -> int | None:
    text = str(cell)
    return int(text) if text.isascii() and text.isdecimal() else None
