"""The files below a folder, URL prefix or glob."""

import re
from collections.abc import Container, Iterator

from fsspec.utils import glob_translate

from pfit_ray import storage
from pfit_ray.data.images import missing_reader
from pfit_ray.data.sources.notes import Notes
from pfit_ray.errors import UserError
from pfit_ray.storage import Entry

_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9_]{0,9}$")
_WILDCARD = re.compile(r"[*?\[]")


def find_files(
    place: str,
    suffixes: tuple[str, ...],
    field: str = "data.root",
    notes: Notes | None = None,
    known: Container[str | None] = (),
) -> Iterator[tuple[str, Entry]]:
    """Files with some suffixes, sorted by path; names that begin with a dot are left out.

    Args:
        place: a folder, URL prefix or file, or a pattern with `*`, `**`, `?` or `[...]`.
        suffixes: in lower case; files may write them in upper case too.
        field: the config field that names the place, for error messages.
        notes: gets the files with other suffixes, by suffix.
        known: URLs of files that need no note.

    Yields:
        Path below the folder (for a pattern: the folder before its first wildcard), and entry.

    Raises:
        UserError: at once, when there is no such folder.
    """
    root, pattern = _root_and_pattern(storage.absolute(place))
    if not storage.exists(root):
        raise UserError(f"{field}: there is no folder {root}")
    return _found(root, pattern, suffixes, notes, known)


def relative(url: str, root: str) -> str:
    """Path of something below a root, or its name if it is the root itself."""
    return url[len(root) :].lstrip("/") or url.rpartition("/")[2]


def _found(
    root: str,
    pattern: re.Pattern[str] | None,
    suffixes: tuple[str, ...],
    notes: Notes | None,
    known: Container[str | None],
) -> Iterator[tuple[str, Entry]]:
    for entry in storage.list_entries(root):
        path = relative(entry.url, root)
        if path.startswith(".") or "/." in path or (pattern is not None and not pattern.match(path)):
            continue
        if path.lower().endswith(suffixes):
            yield path, entry
        elif notes is not None and entry.url not in known:
            reader = missing_reader(path)
            notes.add(_left_out(path), path, f"install {reader} to read them, or convert them" if reader else "")


def _left_out(path: str) -> str:
    suffix = _SUFFIX.search(path)
    return f"files left out with the suffix {suffix[0].lower()}" if suffix else "files left out without a suffix"


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
