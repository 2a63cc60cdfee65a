"""From a YAML file and `key=value` overrides to a validated run, or to one sentence of what is wrong."""

import difflib
import io
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

import fsspec
import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pfit_ray.config.credentials import redacted
from pfit_ray.config.run import RunConfig
from pfit_ray.errors import UserError

FORMAT = 2
"""Format of the configs that runs store; see `pfit_ray.config.stored`."""
FORMAT_KEY = "format"
"""Its place in a stored config; configs without it are of format 0."""

_PLAIN_WORDS = {
    r"^input should": "it should",
    r"^(tuple|string) should": "it should",
    r"valid tuple": "list",
    r"valid dictionary or instance of \w+": "mapping of fields",
    r" after validation, not \d+": "",
    r", unable to (parse|interpret).*": "",
}


def _read(url: str) -> bytes:
    with fsspec.open(url, "rb") as file:
        data: bytes = file.read()
    return data


def load_config(url: str, overrides: Iterable[str] = (), read: Callable[[str], bytes] = _read) -> RunConfig:
    """Read and validate a run's config.

    Args:
        url: path or URL of the YAML file.
        overrides: `key=value` strings; the key is a dotted path, the value is YAML.
        read: reads the file.

    Returns:
        The validated config.

    Raises:
        UserError: in one sentence: the file, field or value that is wrong, and what is allowed.
    """
    document = read_document(url, read)
    written = document.pop(FORMAT_KEY, FORMAT)
    if written > FORMAT:
        raise UserError(
            f"config: {url} was written by a newer version of pfit_ray (format {written}, this one knows {FORMAT}); "
            "use that version"
        )
    for override in overrides:
        _apply(document, override)
    return validate(document)


def read_document(url: str, read: Callable[[str], bytes]) -> dict[str, Any]:
    """The mappings of a YAML file; `FORMAT_KEY`, where it is there, is a whole number.

    Raises:
        UserError: when it cannot be read or holds something else.
    """
    try:
        document = yaml.safe_load(read(url).decode())
    except FileNotFoundError as error:
        raise UserError(f"config: there is no file {url!r}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"config: {url} is not valid YAML: {' '.join(str(error).split())}") from error
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"config: {url} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise UserError(f"config: {url} must hold a mapping of fields, such as 'output: runs/mine'")
    if not isinstance(document.get(FORMAT_KEY, 0), int):
        raise UserError(f"config: {FORMAT_KEY!r} of {url} is not a whole number; restore the value that the run wrote")
    return document


def validate(document: Mapping[str, Any]) -> RunConfig:
    """Validate a config given as nested mappings; raises UserError like `load_config`."""
    try:
        return RunConfig.model_validate(document)
    except ValidationError as error:
        raise UserError(describe_mistake(error)) from error


def describe_mistake(error: ValidationError) -> str:
    """The first mistake of a config in one sentence."""
    return redacted(_sentence(error.errors()[0]))


def resolved_yaml(config: RunConfig) -> str:
    """The config with every field spelled out, as YAML."""
    stream = io.StringIO()
    yaml.safe_dump(config.model_dump(mode="json"), stream, sort_keys=False, allow_unicode=True)
    return stream.getvalue()


def _apply(document: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"config: override {override!r} must have the form key=value, such as cam.flip=false")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"config: the value of override {override!r} is not valid YAML") from error
    *parents, leaf = key.split(".")
    node = document
    for part in parents:
        child = node.setdefault(part, {})
        if child is None:
            child = node[part] = {}
        if not isinstance(child, dict):
            raise UserError(f"config: override {override!r} goes below {part!r}, which is a value; set {part!r} itself")
        node = child
    node[leaf] = value


def _sentence(error: ErrorDetails) -> str:
    path = [str(part) for part in error["loc"]]
    field = ".".join(path)
    if error["type"] == "extra_forbidden":
        near = _nearest(path)
        hint = f" (did you mean {near!r}?)" if near else ""
        return f"config: unknown key {field!r}{hint}"
    if error["type"] == "missing":
        return f"config: {field!r} is required but missing"
    message = error["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if error["type"] == "value_error":
        return f"config: {field + ': ' if field else ''}{message}"
    for words, plain in _PLAIN_WORDS.items():
        message = re.sub(words, plain, message)
    return f"config: {field!r} is {error['input']!r}; {message}"


def _nearest(path: list[str]) -> str | None:
    """The valid name nearest to an unknown key: among its siblings first, then among all fields."""
    section: type[BaseModel] | None = RunConfig
    for part in path[:-1]:
        section = section_of(section, part) if section else None
    siblings = list(section.model_fields) if section else []
    near = difflib.get_close_matches(path[-1], siblings, n=1, cutoff=0.6)
    if near:
        return ".".join([*path[:-1], near[0]])
    everywhere = [name for name in _all_fields(RunConfig) if name.rpartition(".")[2] == path[-1]]
    return everywhere[0] if everywhere else None


def section_of(section: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The class of a field that is a section, or a list of sections; None for all others."""
    field = section.model_fields.get(name)
    if field is None:
        return None
    for candidate in (field.annotation, *get_args(field.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _all_fields(section: type[BaseModel], prefix: str = "") -> list[str]:
    names = []
    for name in section.model_fields:
        names.append(prefix + name)
        child = section_of(section, name)
        if child is not None:
            names.extend(_all_fields(child, f"{prefix}{name}."))
    return names
