"""Source: every image below a folder or URL prefix."""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial

from pfit_ray import storage
from pfit_ray.config.data import DataConfig
from pfit_ray.data.images import IMAGE_SUFFIXES
from pfit_ray.data.sources.files import find_files, relative
from pfit_ray.data.sources.item import Item, hashed_id, is_plain, printable
from pfit_ray.data.sources.label_table import LabelTable, label_files
from pfit_ray.data.sources.labels import find_class, folded, labelled
from pfit_ray.data.sources.mask_ids import LABELMAP
from pfit_ray.data.sources.notes import Notes
from pfit_ray.data.sources.spill import TextMap
from pfit_ray.errors import RowError, UserError
from pfit_ray.storage import Entry


def list_folder(data: DataConfig, notes: Notes) -> Iterator[Item]:
    """Every image below `data.root`, sorted by path; names that begin with a dot are left out.

    The id of an image at the top is its stem, if this has only letters, digits, `_` and `-` and no other image at the
    top shares it. The id of every other image is the path without suffix, with other characters replaced by `_`, and 16
    hex digits of the path's SHA-1. It does not depend on other files.

    Labels come from the table `data.labels`, if given, else they are unknown; with source class_folders the one folder
    of the path that has a class's name is the label, on whatever level, and `background` means no class. Ground
    truth is the PNG below `data.masks` with the image's relative path (or its id) and the suffix .png; nothing below
    `data.masks` is taken as an image, except, where all images lie there, what is no PNG. Neither the table nor the
    masks' names are held in memory.

    Args:
        data: the source; `data.root` may be a pattern with `*`, `**`, `?` or `[...]`.
        notes: gets what is left out.

    Raises:
        UserError: when a folder or the label table is missing or unusable.
    """
    tables = list(map(storage.absolute, label_files(data.labels))) if data.labels else []
    files = find_files(data.root or "", IMAGE_SUFFIXES, notes=notes, known=tables)
    masks_root = storage.absolute(data.masks) if data.masks else None
    if masks_root and not storage.exists(masks_root):
        raise UserError(f"data.masks: there is no folder {masks_root}")
    table = LabelTable(data.labels, data.class_list, notes, data.root or "") if data.labels else None
    apart = masks_root is not None and not _below(storage.absolute(data.root or ""), masks_root)
    masks = TextMap(_masks(masks_root, notes if apart else None)) if masks_root else None
    return _items(data, _images(files, masks_root, apart), table, masks, notes)


def _items(
    data: DataConfig,
    images: Iterator[tuple[str, Entry]],
    table: LabelTable | None,
    masks: TextMap | None,
    notes: Notes,
) -> Iterator[Item]:
    for image_id, path, entry in _identified(images):
        mask_uri = _mask_of(masks, image_id, path, notes)
        item = Item(image_id, printable(entry.url), mask_uri=mask_uri, size=entry.size, version=entry.version)
        yield labelled(item, data, partial(_names, data, table, image_id, path, entry), notes)
    if table is not None:
        table.note_unused()
    if masks is not None and (unused := masks.unclaimed())[0]:
        remedy = "a mask is named like its image, with the suffix .png and nothing else"
        notes.add("masks in data.masks without an image of their name", unused[1], remedy, unused[0])


def _names(data: DataConfig, table: LabelTable | None, image_id: str, path: str, entry: Entry) -> Iterable[str] | None:
    _check_text(path)
    if table is not None:
        return table.names(image_id, path, entry.url)
    return _class_folder(path, data) if data.source == "class_folders" else None


def _images(files: Iterator[tuple[str, Entry]], masks_root: str | None, apart: bool) -> Iterator[tuple[str, Entry]]:
    for path, entry in files:
        if masks_root is None or not (_below(entry.url, masks_root) and (apart or path.lower().endswith(".png"))):
            yield path, entry


def _below(url: str, folder: str) -> bool:
    return f"{url.rstrip('/')}/".startswith(folder.rstrip("/") + "/")


def _identified(images: Iterator[tuple[str, Entry]]) -> Iterator[tuple[str, str, Entry]]:
    """Image id, relative path and entry of each image.

    Paths are sorted, so images that share a plain stem lie between paths that begin with it and a dot. These are held
    back until another stem comes.
    """
    held: list[tuple[str, str, Entry]] = []
    for path, entry in images:
        stem = path.rpartition(".")[0]
        if held and path.partition(".")[0] != held[0][0]:
            yield from _settled(held)
            held = []
        if held or is_plain(stem):
            held.append((stem, path, entry))
        else:
            yield hashed_id(stem, path), path, entry
    yield from _settled(held)


def _settled(images: list[tuple[str, str, Entry]]) -> Iterator[tuple[str, str, Entry]]:
    count = Counter(stem for stem, _, _ in images)
    for stem, path, entry in images:
        plain = is_plain(stem) and count[stem] == 1
        yield stem if plain else hashed_id(stem, path), path, entry


def _masks(masks_root: str, notes: Notes | None) -> Iterator[tuple[str, str]]:
    """Relative path without suffix, and URL, of each PNG; `notes` gets other files."""
    for entry in storage.list_entries(masks_root):
        path = relative(entry.url, masks_root)
        if path.lower().endswith(".png"):
            yield folded(path.rpartition(".")[0]), entry.url
        elif notes is not None and path != LABELMAP and not path.startswith("."):
            remedy = "ground truth is read from PNGs of class ids or colours"
            notes.add("files in data.masks that are not PNGs, left out", path, remedy)


def _mask_of(masks: TextMap | None, image_id: str, path: str, notes: Notes) -> str | None:
    if masks is None:
        return None
    key = next((key for key in (folded(path.rpartition(".")[0]), image_id) if masks.get(key)), None)
    if key is None:
        return None
    masks.claim(key)
    found = masks.get(key)
    if len(found) > 1:
        notes.add("images with several masks of their name, of which the first counts", path)
    return found[0]


def _class_folder(path: str, data: DataConfig) -> list[str]:
    """The class that a folder of an image's path names, on any level.

    Raises:
        RowError: `no_label` or `unknown_class`, if there is no such folder, or several contradict each other.
    """
    folders = path.split("/")[:-1]
    names = {key: folder for folder in folders if (key := find_class(folder, data.class_list))}
    if len(names) > 1:
        told = " and ".join(map(repr, names.values()))
        raise RowError(
            "no_label", f"the folders {told} of {path!r} name different classes; leave one class in each path"
        )
    if not folders:
        raise RowError("no_label", f"{path!r} is in no class folder; move it into one, or use source folder")
    if not names and folders[-1].lower() == "background":
        return []
    return list(names.values()) or folders[-1:]


def _check_text(path: str) -> None:
    if printable(path) != path:
        raise RowError("bad_id", f"the file name {printable(path)!r} is not UTF-8; rename the file")
