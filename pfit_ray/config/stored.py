"""Configs that runs have stored, read by later versions: what is absent was not there yet, what is unknown is left out.

Who adds a field whose default computes something else than was computed before raises `FORMAT` and enters into `BEFORE`
what the field would have been.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from pfit_ray.config.base import Section
from pfit_ray.config.credentials import without_secrets
from pfit_ray.config.load import FORMAT, FORMAT_KEY, describe_mistake, read_document, section_of
from pfit_ray.config.run import RunConfig
from pfit_ray.errors import UserError

BEFORE: dict[str, tuple[int, Any]] = {
    "crf_engine": (1, "pydensecrf"),
    "pseudo_label.pool": (1, False),
    "regions.uss.fused": (1, False),
    "network_engine": (2, "torch"),
}
"""By field: the format that has it first, and its value in configs of formats before. All other fields of today stood
for their defaults before they were there."""

_log = logging.getLogger(__name__)


def load_stored(url: str, read: Callable[[str], bytes]) -> RunConfig:
    """The config of a run directory, whichever version has written it.

    Fields that this version does not know are left out, and a warning names them; what would be refused in a new
    config, because it looks like a secret, is left out as well.

    Raises:
        UserError: when it is no config, or a value in it means nothing to this version.
    """
    document = read_document(url, read)
    written = document.pop(FORMAT_KEY, 0)
    for name, (since, value) in BEFORE.items():
        if written < since:
            _fill(document, name.split("."), value)
    unknown: list[str] = []
    while True:
        try:
            config = RunConfig.model_validate(without_secrets(document), context={"stored": True})
            break
        except ValidationError as error:
            extra = [one["loc"] for one in error.errors() if one["type"] == "extra_forbidden"]
            if not extra:
                newer = f" (a newer version has written it: format {written}, this one knows {FORMAT})"
                raise UserError(
                    f"{url} cannot be read by this version of pfit_ray{newer if written > FORMAT else ''}; "
                    f"{describe_mistake(error)}"
                ) from error
            for place in extra:
                unknown.append(".".join(map(str, place)))
                _drop(document, place)
    if unknown:
        _log.warning("%s has fields that this version leaves out: %s", url, ", ".join(sorted(unknown)))
    return config


def stored_yaml(config: RunConfig) -> bytes:
    """What `load_stored` reads: the format, and every field spelled out."""
    document = {FORMAT_KEY: FORMAT, **config.model_dump(mode="json")}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode()


def is_field(name: str) -> bool:
    """Whether a dotted name is that of a field, or of an entry of a mapping that the user fills."""
    section: Any = RunConfig
    for part in name.split("."):
        if section is None:
            return True
        if part not in section.model_fields:
            return False
        section = section_of(section, part)
    return True


def value_before(name: str) -> Any:
    """What a field of a step's record stood for before it was there; None if there is no such field."""
    if name in BEFORE:
        return BEFORE[name][1]
    section: Any = RunConfig
    own: Any = None
    for part in name.split("."):
        if section is None or part not in section.model_fields:
            return None
        default = section.model_fields[part].default if own is None else getattr(own, part)
        section = section_of(section, part)
        own = default if isinstance(default, Section) else None
    return None if default is PydanticUndefined or isinstance(default, Section) else default


def completed(name: str, value: Any) -> Any:
    """A value of a step's record; where it is a list of sections, with the fields that these had not yet."""
    if not isinstance(value, list):
        return value
    section: Any = RunConfig
    for part in name.split("."):
        section = section and section_of(section, part)
    if not section:
        return value
    return [
        {**{part: _plain(field.default) for part, field in section.model_fields.items()}, **item}
        if isinstance(item, Mapping)
        else item
        for item in value
    ]


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _fill(document: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a field that is absent."""
    *parents, leaf = path
    for part in parents:
        if document.get(part) is None:
            document[part] = {}
        document = document[part]
        if not isinstance(document, dict):
            return
    document.setdefault(leaf, value)


def _drop(document: Any, place: tuple[int | str, ...]) -> None:
    *parents, leaf = place
    for part in parents:
        document = document[part]
    del document[leaf]
