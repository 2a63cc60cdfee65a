"""Source: a table that names the images, CSV, JSON lines or Parquet."""

from collections.abc import Iterator, Sequence

from pfit_ray import storage
from pfit_ray.config.data import DataConfig
from pfit_ray.data.sources.item import Item, hashed_id, is_plain, path_id
from pfit_ray.data.sources.label_table import LABEL_COLUMN, as_cell, cell_names
from pfit_ray.data.sources.labels import label_keys
from pfit_ray.data.sources.notes import Notes
from pfit_ray.data.sources.rows import Row, read_rows
from pfit_ray.errors import RowError, UserError

IMAGE_COLUMNS = ("image", "uri")
_COLUMNS = (*IMAGE_COLUMNS, "image_id", LABEL_COLUMN, "mask", "size")


def list_table(data: DataConfig, notes: Notes) -> Iterator[Item]:
    """The images that `data.table` names, in its order; the table is read as a stream.

    Column `image` (or `uri`) is an absolute path, a URL, or a path below `data.root`, or below the table's folder
    where no root is given; `mask` likewise. The id is column `image_id`, made safe where it is unsafe as a file
    name, else that of source folder for the same path: the stem, or where folders or other characters are in the
    path, its characters and a hash. `classes` is a text or list of class names: where it is null or not there, the
    label is unknown; where it is empty, no foreground class is present. `size` is the image's bytes.

    Args:
        data: the source.
        notes: is told what is left out.

    Raises:
        UserError: when the table is missing or damaged, lacks the column, or a row names no image.
    """
    url = storage.absolute(data.table or "")
    root = storage.absolute(data.root) if data.root else url.rpartition("/")[0] or "/"
    known = set(data.class_list.names)
    column = None
    for place, row in read_rows(url, "data.table", _COLUMNS, _needed):
        if column is None:
            column = next(name for name in IMAGE_COLUMNS if name in row)
        image = row.get(column)
        if not isinstance(image, str) or not image:
            raise UserError(f"data.table: {url}, {place} names no image in column {column!r}")
        yield _item(data, root, known, image, row)


def _needed(columns: Sequence[str]) -> str | None:
    return None if any(name in columns for name in IMAGE_COLUMNS) else "'image' or 'uri'"


def _item(data: DataConfig, root: str, known: set[str], image: str, row: Row) -> Item:
    uri = _resolved(root, image)
    given = row.get("image_id")
    if given is None or given == "":
        image_id = path_id(uri.removeprefix(root.rstrip("/") + "/"))
    else:
        image_id = str(given) if is_plain(str(given)) else hashed_id(str(given), str(given))
    mask = row.get("mask")
    mask_uri = _resolved(root, mask) if isinstance(mask, str) and mask else None
    size = _size(row.get("size"))
    try:
        names = cell_names(as_cell(row.get(LABEL_COLUMN)), known)
        keys = None if names is None else label_keys(names, data.class_list, data.unknown_classes == "ignore")
        return Item(image_id, uri, keys, mask_uri, size=size)
    except RowError as error:
        return Item(image_id, uri, None, mask_uri, error.reason, error.message, size=size)


def _resolved(root: str, text: str) -> str:
    storage.refuse_credentials(text)  # the manifest would keep them
    if storage.is_local(text) and not text.startswith(("/", "~", "file://", "local://")):
        text = storage.join(root, text)
    return storage.absolute(text)


def _size(cell: object) -> int | None:
    text = str(cell)
    return int(text) if text.isascii() and text.isdecimal() else None
