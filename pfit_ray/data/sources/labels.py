"""From class names, as people write them, to the class ids of one image."""

import difflib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache

from pfit_ray.config.data import DataConfig
from pfit_ray.constants import ClassList
from pfit_ray.data.sources.item import Item
from pfit_ray.data.sources.notes import Notes
from pfit_ray.errors import RowError

LABEL_COLUMN = "classes"

Cell = str | list[str] | None
"""The classes of one image: a text, a list of names, or nothing known."""

_STRONG = re.compile(r"[;|]")
_QUOTED = r"(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"
_QUOTED_LIST = re.compile(rf"{_QUOTED}(?:[\s,;|]*{_QUOTED})*[\s,;|]*", re.DOTALL)
_BRACKETS = re.compile(r"\[(.*)\]|\{(.*)\}|\((.*)\)|set\((\))", re.DOTALL)


def folded(text: str) -> str:
    r"""A name in one spelling: accents composed, `/` for `\`, without `./` before it."""
    text = unicodedata.normalize("NFC", text).replace("\\", "/")
    while text.startswith("./"):
        text = text[2:].lstrip("/")
    return text


def find_class(name: str, classes: ClassList) -> int | None:
    """The class id of a name: an exact match, else the only one up to case, accents and `_` for blanks."""
    found = classes.ids.get(name)
    for written in (_loose, _without_underscores):
        found = _ids_by(written, classes).get(written(name)) if found is None else found
    return found


def labelled(
    item: Item, data: DataConfig, names: Callable[[], Iterable[str] | None], notes: Notes | None = None
) -> Item:
    """The item with its class ids, or with the reason why its label cannot be read.

    Args:
        item: an image.
        data: the source.
        names: gives the names of its classes, as `label_keys` takes them, or None for an unknown label. Its RowError
            becomes the reason.
        notes: as of `label_keys`.
    """
    try:
        found = names()
        if found is None:
            return item
        return replace(item, keys=label_keys(found, data.class_list, data.unknown_classes == "ignore", notes))
    except RowError as error:
        return replace(item, reason=error.reason, message=error.message)


def label_keys(
    names: Iterable[str], classes: ClassList, ignore_unknown: bool, notes: Notes | None = None
) -> tuple[int, ...]:
    """Ascending ids of the named classes, each once.

    Args:
        names: class names of the image; none, or `background` alone, means that it shows no foreground class.
        classes: the run's classes.
        ignore_unknown: drop names that are not listed.
        notes: gets the names that are dropped, and those that are spelled differently.

    Raises:
        RowError: `unknown_class`, with the nearest valid name.
    """
    found = {name: find_class(name, classes) for name in names}
    found = {name: key for name, key in found.items() if key is not None or _without_underscores(name) != "background"}
    unknown = sorted(name for name, key in found.items() if key is None)
    if unknown and not ignore_unknown:
        raise RowError("unknown_class", f"class {unknown[0]!r} is not in data.classes{_hint(unknown[0], classes)}")
    for name, key in found.items():
        if notes is None:
            break
        if key is None:
            notes.add(_DROPPED, name, "add them to data.classes, or leave data.unknown_classes at fail")
        elif name not in classes.ids:
            notes.add("labels that differ from data.classes in case, underscores or the form of accents", name)
    return tuple(sorted({key for key in found.values() if key is not None}))


_DROPPED = "labels dropped, because data.classes does not list them and data.unknown_classes is ignore"


def cell_names(cell: Cell, known: set[str]) -> list[str] | None:
    """Class names in a cell of column `classes`; None where the label is unknown.

    Raises:
        RowError: see `split_names`.
    """
    return split_names(cell, known) if isinstance(cell, str) else cell


def as_cell(value: object) -> Cell:
    """A value of column `classes`: a text, a list, or one name of another type, such as a number."""
    if value is None or value != value:  # NaN is what pandas writes where nothing is known
        return None
    if isinstance(value, str):
        return value
    return [str(name) for name in value] if isinstance(value, list | tuple) else [str(value)]


def split_names(text: str, known: set[str]) -> list[str]:
    """Class names in a text.

    The text is a list as JSON or Python write it, or one known class, or names between `;` or `|`, and within these
    between `,`. Neighbours that make up a known class stay together. A text without any of these signs is split into
    words in the same way.

    Raises:
        RowError: `no_label`, where a text can be read in two ways.
    """
    text = text.strip()
    names = frozenset(map(_loose, known)) if not text.isalnum() else frozenset()
    if not names or _loose(text) in names:
        return [text] if text else []
    listed = _listed(text)
    if listed is not None:
        return listed
    bare = _BRACKETS.fullmatch(text)
    if bare is not None:
        text = next(group for group in bare.groups() if group is not None).strip(" )")
    parts = [part.strip() for part in _STRONG.split(text)]
    if len(parts) == 1 and "," not in text:
        return list(_joined(text.split(), " ", names, refuse=False))
    return [
        name
        for part in parts
        if part
        for name in ([part] if _loose(part) in names else _joined(re.split(r"\s*,\s*", part), ", ", names, refuse=True))
        if name
    ]


def _joined(parts: list[str], sign: str, names: frozenset[str], refuse: bool) -> Iterator[str]:
    """The parts; those that make up a known name stay together, the longest first."""
    while parts:
        length = next((n for n in range(len(parts), 1, -1) if _is_known(parts[:n], sign, names)), 1)
        whole = sign.join(parts[:length])
        if refuse and length > 1 and all(_loose(part) in names for part in parts[:length]):
            raise RowError(
                "no_label",
                f"{whole!r} may be one class or {length}: separate classes by ';', or write a list such as "
                f"{json.dumps(parts[:length], ensure_ascii=False)}",
            )
        yield whole
        parts = parts[length:]


def _is_known(parts: list[str], sign: str, names: frozenset[str]) -> bool:
    return _loose(sign.join(parts)) in names or _loose(sign.strip().join(parts)) in names


def _listed(text: str) -> list[str] | None:
    """The names of a list written as text, all quoted; None if it is no such list."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, list):
        return [str(name) for name in value]
    brackets = _BRACKETS.fullmatch(text)
    inner = (next((group for group in brackets.groups() if group is not None), "") if brackets else text).strip(" )")
    if not inner:
        return []
    if not _QUOTED_LIST.fullmatch(inner):
        return None
    return [re.sub(r"\\(.)", r"\1", found[1:-1]) for found in re.findall(_QUOTED, inner, re.DOTALL)]


def _loose(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).split())


def _without_underscores(name: str) -> str:
    return _loose(name.replace("_", " "))


@lru_cache(maxsize=16)
def _ids_by(written: Callable[[str], str], classes: ClassList) -> dict[str, int]:
    """Class ids by their names in a looser writing, of those that are not alike in it."""
    loose = [written(name) for name in classes.names]
    return {name: key for key, name in enumerate(loose, start=1) if loose.count(name) == 1}


def _hint(name: str, classes: ClassList) -> str:
    if re.fullmatch(r"[0-9.]+", name):
        return "; labels are names: write the class that this number stands for"
    alike = [known for known in classes.names if _loose(known) == _loose(name)]
    if len(alike) > 1:
        return f", which holds {' and '.join(map(repr, alike))}: write one of them"
    near = difflib.get_close_matches(_loose(name), list(_ids_by(_loose, classes)), n=1)
    if near:
        return f" (did you mean {classes.name(_ids_by(_loose, classes)[near[0]])!r}?)"
    return "; add it or set data.unknown_classes=ignore"
