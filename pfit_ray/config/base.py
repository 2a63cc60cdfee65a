"""The base of every config section and the helper that declares a number with its range and unit."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict


class Section(BaseModel):
    """One section of a run's config: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    def __hash__(self) -> int:  # fields may hold mappings, which have no hash of their own
        return hash(self.model_dump_json())

    @model_validator(mode="before")
    @classmethod
    def _keep_own_defaults(cls, given: Any) -> Any:
        """A section that is given in part keeps the rest of its own default, not that of its class."""
        if not isinstance(given, dict):
            return given
        return {
            name: _overlay(cls.model_fields[name].default, value) if name in cls.model_fields else value
            for name, value in given.items()
        }


def _overlay(default: Any, given: Any) -> Any:
    if not isinstance(default, Section) or not isinstance(given, dict):
        return given
    own = {name: getattr(default, name) for name in type(default).model_fields}
    return {**own, **{name: _overlay(own.get(name), value) for name, value in given.items()}}


def option(default: Any, text: str, *, unit: str | None = None, **bounds: Any) -> Any:
    """Declare a config field.

    Args:
        default: its default; `...` makes it required.
        text: one sentence that says what it does.
        unit: unit of a number, such as "pixels".
        **bounds: pydantic's limits: `ge`, `gt`, `le`, `lt`, `min_length`, `max_length`.

    Returns:
        The pydantic field.
    """
    extra: JsonDict | None = {"unit": unit} if unit else None
    return Field(default, description=text, json_schema_extra=extra, **bounds)
