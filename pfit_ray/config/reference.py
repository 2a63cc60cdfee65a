"""The configuration reference, docs/configuration.md, made from the model.

python -m pfit_ray.config.reference > docs/configuration.md
"""

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml

from pfit_ray.config.base import Section
from pfit_ray.config.run import RunConfig
from pfit_ray.config.sources import ClipConfig, ExternalCamConfig, ExternalRegionsConfig, SamConfig

INTRODUCTION = """\
# Configuration

<!-- Made by `python -m pfit_ray.config.reference > docs/configuration.md`; a test compares. -->

Every field of a run's YAML file with its type, range, unit and default. `data` and `output` are required. On the
command line, set a field by its whole name: `pfit-ray run CONFIG cam.flip=false`. An unknown name or a value out of
range stops the run before any work. `config.yaml` in the run directory has every field as it was used.
"""
WORDS: dict[Any, str] = {str: "text", int: "integer", float: "number", bool: "true or false", Any: "anything"}
BOUNDS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}", "multiple_of": "multiple of {}"}
Rows = dict[str, str]
"""By a field's own name: what the page says of it."""
OPTIONS: dict[str, type[Section]] = {
    "Options of a region source of kind external": ExternalRegionsConfig,
    "Options of a region source of kind sam": SamConfig,
    "Options of cam.source external": ExternalCamConfig,
    "Options of cam.source clip": ClipConfig,
}


def configuration_page() -> str:
    """The whole page, as Markdown."""
    seen: dict[str, Rows] = {}
    parts = [INTRODUCTION, *_part("Top level", RunConfig, _lines("", _values(RunConfig, None)))]
    for name, field in RunConfig.model_fields.items():
        if (child := _child(field.annotation)) is not None:
            own = field.default if isinstance(field.default, child) else None
            parts += _part(name, child, _section(child, f"{name}.", own, seen))
            for inner, entries in child.model_fields.items():
                if _is_list(entries.annotation) and (entry := _child(entries.annotation)) is not None:
                    parts += _part(f"An entry of {name}.{inner}", entry, _lines("", _values(entry, None)))
    for title, section in OPTIONS.items():
        parts += _part(title, section, _lines("", _values(section, None)))
    return "\n".join(parts)


def _part(title: str, section: type[Section], lines: Iterator[str]) -> list[str]:
    """A heading, the section's sentence, a line for each field."""
    return [f"## {title}", _sentence(section), "\n".join(lines) + "\n"]


def _lines(prefix: str, rows: Rows) -> Iterator[str]:
    return (f"- `{prefix}{name}` {said}" for name, said in rows.items())


def _section(section: type[Section], prefix: str, own: Section | None, seen: dict[str, Rows]) -> Iterator[str]:
    """A section's values, then those of each section in it, under a line that says what it is.

    A section like one that the page has already lists only what differs.

    Args:
        section: the class.
        prefix: what the names of its fields begin with.
        own: the section's default where it stands, from which defaults are taken; None: those of the class.
        seen: the sections that the page has so far, by their names.
    """
    yield from _lines(prefix, _values(section, own))
    for name, field in section.model_fields.items():
        child = _child(field.annotation)
        if child is not None and not _is_list(field.annotation):
            default = field.default if own is None else getattr(own, name)
            default = default if isinstance(default, child) else None
            place, rows = f"{prefix}{name}", _values(child, default)
            like = next((one for one, others in seen.items() if _is_like(rows, others)), None)
            if like is None:
                seen[place] = rows
                yield f"- **`{place}`**: {_sentence(child)}"
                yield from _section(child, f"{place}.", default, seen)
            else:
                differing = {name: said for name, said in rows.items() if said != seen[like].get(name)}
                yield f"- **`{place}`**: fields and defaults as in `{like}`{', except:' if differing else '.'}"
                yield from _lines(f"{place}.", differing)


def _is_like(rows: Rows, others: Rows) -> bool:
    """Whether all fields of another section are here, and at least half of them the same."""
    return others.keys() <= rows.keys() and 2 * sum(rows[name] == cells for name, cells in others.items()) >= len(
        others
    )


def _sentence(section: type[Section]) -> str:
    return (section.__doc__ or "").splitlines()[0]


def _values(section: type[Section], own: Section | None) -> Rows:
    """What the page says of a section's own fields, but for the sections that are always there."""
    rows = {}
    for name, field in section.model_fields.items():
        if _child(field.annotation) is None or _is_list(field.annotation) or field.default is None:
            unit = (field.json_schema_extra or {}).get("unit") if isinstance(field.json_schema_extra, dict) else None
            limits = [*_bounds(field.metadata, field.annotation), *([str(unit)] if unit else [])]
            default = field.default if own is None else getattr(own, name)
            kind = [", ".join([_type(field.annotation), *limits])]
            kind.append("required" if field.is_required() else f"default `{_yaml(default)}`")
            rows[name] = f"({'; '.join(kind)}): {field.description}".replace("*", "\\*")
    return rows


def _type(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(inner[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if one is type(None) else _type(one) for one in inner)
    if origin is tuple and inner[-1] is not ...:
        return f"list of {len(inner)} of {_type(inner[0])}"
    if origin in (tuple, list):
        return f"list of {_type(inner[0])}"
    if origin is dict:
        return f"mapping of {_type(inner[0])} to {_type(inner[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "section"
    return WORDS[annotation]


def _bounds(metadata: list[Any], annotation: Any) -> list[str]:
    """The limits of a value, then those of each of its parts."""
    limits = [(text, getattr(one, name, None)) for one in metadata for name, text in BOUNDS.items()]
    found = [text.format(str(limit).removesuffix(".0")) for text, limit in limits if limit is not None]
    if any(getattr(one, "min_length", None) for one in metadata):
        found.append("not empty")
    for part in get_args(annotation):
        if get_origin(part) is Annotated:
            inner = [entry for extra in get_args(part)[1:] for entry in getattr(extra, "metadata", [extra])]
            found += [f"each {text}" for text in _bounds(inner, get_args(part)[0])]
        else:
            found += _bounds([], part)
    return found


def _child(annotation: Any) -> type[Section] | None:
    """The section that a field holds, alone, or null, or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    found = (_child(part) for part in get_args(annotation))
    return next((child for child in found if child is not None), None)


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) in (tuple, list)


def _yaml(value: Any) -> str:
    if isinstance(value, Section | tuple | list):
        value = [
            one.model_dump(mode="json", exclude_defaults=True) if isinstance(one, Section) else one for one in value
        ]
    return yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).removesuffix("...\n").strip()


if __name__ == "__main__":
    print(configuration_page(), end="")
