"""What all parts of a request have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]

_PLAIN = (bool, int, float)


class Part(BaseModel):
    """A part of a request: unknown fields are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="after")
    @classmethod
    def _no_nul(cls, value: Any) -> Any:
        if _holds_nul(value):
            raise ValueError("It holds a NUL character, which no path, no name and no database takes. Leave it out.")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        # Python takes true for 1, and so would pydantic.
        if _holds_truth(value) and info.field_name is not None:
            kinds = [kind for kind in _kinds(cls.model_fields[info.field_name].annotation) if kind in _PLAIN]
            if kinds and bool not in kinds:
                raise ValueError("true and false are no numbers. Use a number.")
        return value


def _holds_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_holds_nul(one) for pair in value.items() for one in pair)
    if isinstance(value, list | tuple):
        return any(_holds_nul(one) for one in value)
    return isinstance(value, str) and "\0" in value


def _holds_truth(value: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return isinstance(value, bool) or any(_holds_truth(one) for one in inner)


def _kinds(annotation: Any) -> Iterator[Any]:
    """The types that an annotation is made of."""
    yield annotation
    for inner in get_args(annotation):
        yield from _kinds(inner)
