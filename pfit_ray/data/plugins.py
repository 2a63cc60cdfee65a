"""Classes that other installed packages have registered as Python entry points."""

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pkgutil import resolve_name
from typing import Any

from pfit_ray.errors import UserError


def find_class(group: str, name: str, builtin: Mapping[str, type | str], field: str) -> type[Any]:
    """The class of a name: one of our own, or one that an installed package has registered.

    Args:
        group: the entry-point group, such as `pfit_ray.region_sources`.
        name: the name that the config gives.
        builtin: our own classes by name, or the place of one that is imported on demand; no package can replace them.
        field: the config field, for error messages.

    Raises:
        UserError: when there is no such name, several packages claim it, or its package cannot be imported.
    """
    if name in builtin:
        own = builtin[name]
        return resolve_name(own) if isinstance(own, str) else own
    found = _registered(group, name)
    if not found:
        known = sorted({*builtin, *(point.name for point in entry_points(group=group))})
        raise UserError(
            f"config: {field} is {name!r}, which is none of {', '.join(known)}; a package that provides it must be "
            f"installed on every node and register it in the entry-point group {group}"
        )
    if len(found) > 1:
        packages = " and ".join(sorted(_package(point) for point in found))
        raise UserError(f"config: {field} is {name!r}, which {packages} both register; uninstall one of them")
    try:
        loaded = found[0].load()
    except Exception as error:
        raise UserError(
            f"config: {field} is {name!r}, and {found[0].value} of {_package(found[0])} cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(loaded, type):
        raise UserError(f"config: {field} is {name!r}, and {found[0].value} of {_package(found[0])} is not a class")
    return loaded


def plugin_package(group: str, name: str) -> str | None:
    """Package and version that registers a name; None for our own."""
    found = _registered(group, name)
    return _package(found[0]) if found else None


def _registered(group: str, name: str) -> list[EntryPoint]:
    return list(entry_points(group=group, name=name))


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value
