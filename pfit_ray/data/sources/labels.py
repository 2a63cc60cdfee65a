"""From the class names of one image to its keys."""

import difflib
from collections.abc import Iterable

from pfit_ray.constants import ClassList
from pfit_ray.errors import RowError


def label_keys(names: Iterable[str], classes: ClassList, ignore_unknown: bool) -> tuple[int, ...]:
    """Ascending ids of the named classes, each once.

    Args:
        names: class names of the image; none means that it shows no foreground class.
        classes: the run's classes.
        ignore_unknown: drop names that are not listed.

    Raises:
        RowError: `unknown_class`, with the nearest valid name.
    """
    names = list(names)
    unknown = sorted({name for name in names if name not in classes.ids})
    if unknown and not ignore_unknown:
        raise RowError("unknown_class", f"class {unknown[0]!r} is not in data.classes{_hint(unknown[0], classes)}")
    return tuple(classes.keys([name for name in names if name in classes.ids]).tolist())


def _hint(name: str, classes: ClassList) -> str:
    by_lower = {known.lower(): known for known in classes.names}
    near = difflib.get_close_matches(name.lower(), list(by_lower), n=1)
    return f" (did you mean {by_lower[near[0]]!r}?)" if near else "; add it or set data.unknown_classes=ignore"
