"""Source: every image below a folder or URL prefix."""

import re
from collections import Counter
from collections.abc import Iterator

from fsspec.utils import glob_translate

from pfit_ray import storage
from pfit_ray.config.data import DataConfig
from pfit_ray.errors import RowError, UserError
from pfit_ray.sources.item import Item, hashed_id, is_plain
from pfit_ray.sources.labels import label_keys
from pfit_ray.sources.table import LabelTable

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")

_WILDCARD = re.compile(r"[*?\[]")


def list_folder(data: DataConfig) -> Iterator[Item]:
    """Every image below `data.root`, sorted by path; names that begin with a dot are left out.

    The id of an image at the top whose stem is made of letters, digits, `_` and `-` is this stem. Every other
    image's id, and that of images at the top that share a stem, is the path without suffix, with other
    characters replaced by `_`, and 8 hex digits of the path's SHA-1: the same whatever else is in the folder.

    Labels come from the table `data.labels`, if given, else they are unknown. Ground truth is the PNG below
    `data.masks` with the image's relative path (or its id) and the suffix .png; PNGs below `data.masks` are
    never taken as images.

    Args:
        data: the source; `data.root` may be a pattern with `*`, `**`, `?` or `[...]`.

    Raises:
        UserError: when a folder or the label table is missing or unusable.
    """
    root, pattern = _root_and_pattern(storage.absolute(data.root or ""))
    if not storage.exists(root):
        raise UserError(f"data.root: there is no folder {root}")
    masks_root = storage.absolute(data.masks) if data.masks else None
    if masks_root and not storage.exists(masks_root):
        raise UserError(f"data.masks: there is no folder {masks_root}")
    table = LabelTable(data.labels) if data.labels else None
    masks = dict(_masks(masks_root)) if masks_root else {}
    return _items(data, _images(root, pattern, masks_root), table, masks)


def _items(
    data: DataConfig,
    images: Iterator[tuple[str, str]],
    table: LabelTable | None,
    masks: dict[str, str],
) -> Iterator[Item]:
    for image_id, path, uri in _identified(images):
        mask_uri = masks.get(path.rpartition(".")[0]) or masks.get(image_id)
        try:
            _check_text(path)
            keys = None
            if table is not None:
                names = table.names(image_id, path, uri, data.class_list.names)
                keys = label_keys(names, data.class_list, data.unknown_classes == "ignore")
            yield Item(image_id, uri, keys, mask_uri)
        except RowError as error:
            yield Item(image_id, _printable(uri), None, None, error.reason, error.message)
    if table is not None:
        table.warn_unused()


def _root_and_pattern(root: str) -> tuple[str, re.Pattern[str] | None]:
    """Split a pattern into the folder before its first wildcard and a test of the paths below."""
    wildcard = _WILDCARD.search(root)
    if wildcard is None or storage.exists(root):
        return root, None
    folder, _, _ = root[: wildcard.start()].rpartition("/")
    pattern = re.compile(glob_translate(root[len(folder) + 1 :]))
    if folder.endswith(":/"):
        folder += "/"
    return storage.absolute(folder or "/"), pattern


def _images(root: str, pattern: re.Pattern[str] | None, masks_root: str | None) -> Iterator[tuple[str, str]]:
    """Relative path and URL of each image."""
    for url, _ in storage.list_files(root):
        path = _relative(url, root)
        if not path.lower().endswith(SUFFIXES) or any(part.startswith(".") for part in path.split("/")):
            continue
        if masks_root and url.startswith(masks_root.rstrip("/") + "/") and path.lower().endswith(".png"):
            continue
        if pattern is None or pattern.match(path):
            yield path, url


def _identified(images: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    """Image id, relative path and URL of each image.

    Paths are sorted, so images that share a plain stem lie between paths that begin with it and a dot: these
    are held back until another stem comes.
    """
    held: list[tuple[str, str, str]] = []
    for path, url in images:
        stem = path.rpartition(".")[0]
        if held and path.partition(".")[0] != held[0][0]:
            yield from _settled(held)
            held = []
        if held or is_plain(stem):
            held.append((stem, path, url))
        else:
            yield hashed_id(stem, path), path, url
    yield from _settled(held)


def _settled(images: list[tuple[str, str, str]]) -> Iterator[tuple[str, str, str]]:
    count = Counter(stem for stem, _, _ in images)
    for stem, path, url in images:
        plain = is_plain(stem) and count[stem] == 1
        yield stem if plain else hashed_id(stem, path), path, url


def _masks(masks_root: str) -> Iterator[tuple[str, str]]:
    """Relative path without suffix, and URL, of each PNG."""
    for url, _ in storage.list_files(masks_root):
        path = _relative(url, masks_root)
        if path.lower().endswith(".png"):
            yield path.rpartition(".")[0], url


def _relative(url: str, root: str) -> str:
    return url[len(root) :].lstrip("/") or url.rpartition("/")[2]


def _check_text(path: str) -> None:
    if _printable(path) != path:
        raise RowError("bad_id", f"the file name {_printable(path)!r} is not UTF-8; rename the file")


def _printable(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
