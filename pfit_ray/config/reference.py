"""The configuration reference, docs/configuration.md, made from the model.

python -m pfit_ray.config.reference > docs/configuration.md
"""

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from pfit_ray.config.base import Section
from pfit_ray.config.run import RunConfig
from pfit_ray.config.sources import ExternalCamConfig, ExternalRegionsConfig

INTRODUCTION = """\
# Configuration

<!-- Made by `python -m pfit_ray.config.reference > docs/configuration.md`; a test compares. -->

Every field of a run's YAML file. `data` and `output` are required, everything else has a default. On the command line,
set a field by its whole name: `pfit-ray run CONFIG cam.flip=false`. An unknown name or a value out of range stops the
run before any work, in one sentence. `config.yaml` in the run directory has every field as it was used.
"""
HEAD = "| field | type | default | range, unit | what |\n|---|---|---|---|---|"
WORDS: dict[Any, str] = {str: "text", int: "integer", float: "number", bool: "true or false", Any: "anything"}
BOUNDS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}", "multiple_of": "multiple of {}"}
Seen = dict[type[Section], tuple[str, dict[str, Any]]]
"""By class: the name under which the page has its section first, and the defaults there."""
OPTIONS: dict[str, type[Section]] = {
    "options of a region source of kind external": ExternalRegionsConfig,
    "options of cam.source external": ExternalCamConfig,
}


def configuration_page() -> str:
    """The whole page, as Markdown."""
    seen: Seen = {}
    parts = [INTRODUCTION, *_table("Top level", RunConfig, _values(RunConfig, "", None))]
    for name, field in RunConfig.model_fields.items():
        if (child := _child(field.annotation)) is not None:
            own = field.default if isinstance(field.default, child) else None
            parts += _table(name, child, _rows(child, f"{name}.", own, seen))
            parts += _entries(child, f"{name}.")
    for title, section in OPTIONS.items():
        parts += _table(title[:1].upper() + title[1:], section, _values(section, "", None))
    return "\n".join(parts)


def _table(title: str, section: type[Section], rows: Iterator[str]) -> list[str]:
    """A heading, the section's sentence, a table."""
    return [f"## {title}", f"{_sentence(section)}\n", "\n".join([HEAD, *rows]) + "\n"]


def _entries(section: type[Section], prefix: str) -> Iterator[str]:
    """A table for the entries of each list of sections."""
    for name, field in section.model_fields.items():
        child = _child(field.annotation)
        if child is not None and _is_list(field.annotation):
            yield from _table(f"An entry of {prefix}{name}", child, _values(child, "", None))


def _rows(section: type[Section], prefix: str, own: Section | None, seen: Seen) -> Iterator[str]:
    """A section's values, then those of each section in it, under a row that says what it is.

    A section whose class the page has already lists only the fields with other defaults.

    Args:
        section: the class.
        prefix: what the names of its fields begin with.
        own: the section's default where it stands, from which defaults are taken; None: those of the class.
        seen: sections that the page has so far.
    """
    yield from _values(section, prefix, own)
    for name, field in section.model_fields.items():
        child = _child(field.annotation)
        if child is not None and not _is_list(field.annotation):
            default = field.default if own is None else getattr(own, name)
            default = default if isinstance(default, child) else None
            place = f"{prefix}{name}"
            first, shown = seen.setdefault(child, (place, _defaults(child, default)))
            if first == place:
                yield f"| **`{place}`** | | | | {_sentence(child)} |"
                yield from _rows(child, f"{place}.", default, seen)
            else:
                others = list(_values(child, f"{place}.", default, shown))
                yield f"| **`{place}`** | | | | Fields and defaults as in `{first}`{', except:' if others else '.'} |"
                yield from others


def _defaults(section: type[Section], own: Section | None) -> dict[str, Any]:
    return {name: field.default if own is None else getattr(own, name) for name, field in section.model_fields.items()}


def _values(
    section: type[Section], prefix: str, own: Section | None, shown: dict[str, Any] | None = None
) -> Iterator[str]:
    """The rows of a section's own fields, but for the sections that are always there and for defaults as `shown`."""
    for name, default in _defaults(section, own).items():
        field = section.model_fields[name]
        if shown is not None and shown[name] == default:
            continue
        if _child(field.annotation) is None or _is_list(field.annotation) or field.default is None:
            yield _row(prefix + name, field, "required" if field.is_required() else f"`{_yaml(default)}`")


def _sentence(section: type[Section]) -> str:
    return (section.__doc__ or "").splitlines()[0]


def _row(name: str, field: FieldInfo, default: str) -> str:
    unit = (field.json_schema_extra or {}).get("unit") if isinstance(field.json_schema_extra, dict) else None
    limits = [*_bounds(field.metadata, field.annotation), *([str(unit)] if unit else [])]
    cells = [f"`{name}`", _type(field.annotation), default, ", ".join(limits), field.description or ""]
    return "| " + " | ".join(cell.replace("|", "\\|").replace("*", "\\*") for cell in cells) + " |"


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
