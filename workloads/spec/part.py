"""The base of all parts of a request: common types, bounds, and checks of every value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from workloads.spec.errors import InputError

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Location = Annotated[str, Field(min_length=1, max_length=4096)]
"""A path, URL, glob or hub id."""
Word = Annotated[str, Field(min_length=1, max_length=255)]
"""Name of a column, a revision, a resource and the like."""
Labels = Annotated[dict[Name, Annotated[str, Field(max_length=1000)]], Field(max_length=16)]
"""Free labels by name."""

DEFAULT_LENGTH = 128
"""Default length of a sequence in tokens, unless the model's longest input is shorter."""
LEAST_LENGTH, MOST_LENGTH = 8, 4096
"""Bounds of the tokens of a sequence."""
MOST_TOKENS = 10**13
MOST_ROWS = 10**9
"""Most rows of a labelled dataset."""
MOST_HELDOUT_ROWS = 10**6
MOST_FILES = 10_000
"""Most entries of a list of paths."""
MOST_BATCH = 2**20
"""Most rows of a batch."""
MOST_LEVELS = 32
"""Most levels of nested lists and objects."""
MOST_VALUES = 200_000
"""Most values of a request, those in lists and objects included."""

_PLAIN = (bool, int, float)


class Part(BaseModel):
    """A part of a request: unknown fields are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _readable(cls, data: Any) -> Any:
        if isinstance(data, dict):
            check_values(data)
        return data

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        # Python takes true for 1, and so would pydantic, which also takes 0, "no" and "f" for false.
        if info.field_name is not None and (isinstance(value, (*_PLAIN, str)) or _holds_truth(value)):
            kinds = [kind for kind in _kinds(cls.model_fields[info.field_name].annotation) if kind in _PLAIN]
            if kinds and bool not in kinds and _holds_truth(value):
                raise ValueError("true and false are not numbers. Use a number.")
            if bool in kinds and not isinstance(value, bool):
                raise ValueError("It is neither true nor false. Use true or false.")
        return _with_whole_numbers(value)


def default_length(longest: int) -> int:
    """Return the default length of a sequence in tokens, for a model whose longest input is ``longest``."""
    return min(DEFAULT_LENGTH, longest)


def to_keep(part: Part) -> dict[str, Any]:
    """Return the JSON form to store: all defaults are written out, except lengths that depend on the model.

    A ``sequence_length`` that was neither given nor set since is left out; see :func:`default_length`.
    """
    kept = part.model_dump(mode="json")
    for name in type(part).model_fields:
        value = getattr(part, name)
        if isinstance(value, Part):
            kept[name] = to_keep(value)
        elif isinstance(value, list) and any(isinstance(one, Part) for one in value):
            kept[name] = [to_keep(one) for one in value]
    if "sequence_length" in kept and "sequence_length" not in part.model_fields_set:
        del kept["sequence_length"]
    return kept


_P = TypeVar("_P", bound=Part | None)


def with_length(part: _P, longest: int) -> _P:
    """Set the ``sequence_length`` if it was not given, for a model whose longest input is ``longest``."""
    if part is None or "sequence_length" in part.model_fields_set:
        return part
    return part.model_copy(update={"sequence_length": default_length(longest)})


def check_values(data: dict[str, Any]) -> None:
    """Refuse data that is nested too deeply or has too many values, and text that cannot be stored.

    Such text holds a NUL character or half of a surrogate pair.

    Args:
        data: JSON-like data.

    Raises:
        InputError: The data is refused; the error names the first such field.
    """
    pending: list[tuple[Any, tuple[str, ...]]] = [(data, ())]
    seen = 0
    while pending:
        value, path = pending.pop()
        seen += 1
        if seen > MOST_VALUES:
            raise InputError.of("request", f"It holds more than {MOST_VALUES:,} values.", "Send less at once.")
        if isinstance(value, str):
            if (wrong := _unreadable(value)) is not None:
                raise InputError.of(_field(path), f"It holds {wrong}.", "Leave it out.")
        elif isinstance(value, dict | list | tuple):
            if len(path) >= MOST_LEVELS:
                # The top of the path names the field; the whole path would be too long to help.
                raise InputError.of(_field(path[:1]), f"It is nested deeper than {MOST_LEVELS} levels.", "Flatten it.")
            if isinstance(value, dict):
                for name in value:
                    if isinstance(name, str) and (wrong := _unreadable(name)) is not None:
                        raise InputError.of(_field(path), f"One of its names holds {wrong}.", "Leave it out.")
            items = value.items() if isinstance(value, dict) else enumerate(value)
            pending.extend((inner, (*path, str(name))) for name, inner in items)


def _unreadable(text: str) -> str | None:
    if "\0" in text:
        return "a NUL character, which no path, name or database accepts"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "half of a surrogate pair, which is not a character"
    return None


def _field(path: tuple[str, ...]) -> str:
    return ".".join(path) or "request"


def _holds_truth(value: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return isinstance(value, bool) or any(_holds_truth(one) for one in inner)


def _with_whole_numbers(value: Any) -> Any:
    """Convert whole floats to integers, since pydantic does not name the bound that a float over 64 bits breaks."""
    if isinstance(value, list):
        return [_with_whole_numbers(one) for one in value]
    if isinstance(value, dict):
        return {name: _with_whole_numbers(one) for name, one in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield the types that an annotation consists of."""
    yield annotation
    for inner in get_args(annotation):
        yield from _kinds(inner)
