"""Parsing of JSON-like data into a request, or into findings with the field, the problem and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from workloads.spec.errors import FieldError, InputError
from workloads.spec.part import NAME_PATTERN, Part

_P = TypeVar("_P", bound=Part)
MOST = 100
"""Most errors that are reported at once; a request of a megabyte may have more than anybody reads."""
_SHOWN = 120
"""Most characters of a wrong value that a finding repeats."""

_LIMITS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
_LENGTHS = {
    "too_short": ("min_length", "at least", "entry"),
    "too_long": ("max_length", "at most", "entry"),
    "string_too_short": ("min_length", "at least", "character"),
    "string_too_long": ("max_length", "at most", "character"),
}
_REMEDIES = {
    "int": "Use a whole number, written out in digits.",
    "float": "Use a number.",
    "finite_number": "Use a finite number.",
    "bool": "Use true or false.",
    "string": "Use text, in quotes.",
    "list": "Use a list, even for a single entry.",
    "tuple": "Use a list with the required number of entries.",
    "dict": "Use an object of names and values.",
    "model": "Use an object of names and values.",
}
"""Remedies by the beginning of pydantic's type of error."""


def parse_as(kind: type[_P], data: Any, holding: str) -> _P:
    """Check JSON-like data and build a request of some kind.

    Args:
        kind: Class of the request.
        data: The data to check.
        holding: Main fields of such a request in words, for the error about data that is not an object.

    Raises:
        InputError: The data is not such a request; it has one finding for each wrong field.
    """
    if not isinstance(data, dict):
        raise InputError([no_object(f"Send a JSON object with {holding}.")])
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise InputError(findings_of([dict(item) for item in error.errors()], kind)) from None


def no_object(remedy: str) -> FieldError:
    """Make the finding about a request that is not an object but a number, a list or the like."""
    return FieldError("request", "It is not an object.", remedy, path=())


def findings_of(items: Sequence[dict[str, Any]], kind: type[BaseModel]) -> list[FieldError]:
    """Convert pydantic's errors about a request into findings, one a field; no more than :data:`MOST` are read."""
    findings = [finding for item in items[:MOST] for finding in _findings(item, kind)]
    # A field of several allowed types has a finding for each of them; the first is kept.
    return list({finding.field: finding for finding in reversed(findings)}.values())[::-1]


def _findings(item: dict[str, Any], root: type[BaseModel]) -> list[FieldError]:
    # If a field has several allowed types, pydantic puts the type between the names: "placement.list[list[str]].0".
    parts = [str(part) for part in item["loc"]]
    parts = [part for part in parts if part not in {"int", "constrained-int"} and "[" not in part]
    raised = item.get("ctx", {}).get("error")
    if isinstance(raised, InputError):  # raised by our own check; its fields are relative to the part it checks
        return [one.below(*parts) for one in raised.errors]
    return [replace(_finding(item, ".".join(parts) or "request", root), path=tuple(parts))]


def _finding(item: dict[str, Any], field: str, root: type[BaseModel]) -> FieldError:
    kind, context, given = item["type"], item.get("ctx", {}), item["input"]
    if kind == "extra_forbidden":
        known = _fields_at(item["loc"][:-1], root)
        name = str(item["loc"][-1])
        close = [one for one in known if name in one] or difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known fields here: {', '.join(known)}."
        return FieldError(field, "This field is not known.", hint)
    if kind == "missing":
        return FieldError(field, "This field is missing.", "Add it to the request.")
    if kind == "value_error":
        problem, _, remedy = str(context.get("error", item["msg"])).rpartition(". ")
        return FieldError(field, f"{problem}." if problem else remedy, remedy if problem else "Correct it.")
    if kind == "literal_error":
        return FieldError(field, f"{_short(given)} is not one of the choices.", f"Use {context['expected']}.")
    if kind in _LIMITS:
        key, words = _LIMITS[kind]
        return FieldError(field, f"{_short(given)} is out of range.", f"Use a value of {words} {context[key]}.")
    if kind in _LENGTHS:
        key, words, what = _LENGTHS[kind]
        what = what if context[key] == 1 else {"entry": "entries"}.get(what, f"{what}s")
        return FieldError(
            field, f"{_short(given)} does not fit: {item['msg']}.", f"Give {words} {context[key]} {what}."
        )
    return FieldError(field, f"{_short(given)} does not fit: {item['msg']}.", _remedy(kind, given, context))


def _remedy(kind: str, given: Any, context: dict[str, Any]) -> str:
    if kind == "string_pattern_mismatch":
        if context["pattern"] == NAME_PATTERN:
            return "Begin with a letter or a digit and go on with at most 62 letters, digits, '.', '_' or '-'."
        return f"Match the pattern {context['pattern']}."
    if kind == "int_parsing_size":
        return "Use a smaller number."
    if isinstance(given, str) and kind in {"int_parsing", "int_type"} and (number := _whole(given)) is not None:
        return f"Write {number}; YAML takes {given} for text."
    return next((remedy for prefix, remedy in _REMEDIES.items() if kind.startswith(prefix)), "Correct the value.")


def _whole(text: str) -> int | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _fields_at(location: tuple[int | str, ...], root: type[BaseModel]) -> list[str]:
    model: Any = root
    for part in location:
        if isinstance(part, int):
            continue
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            continue
        model = _inner_model(fields[part].annotation) or model
    return list(getattr(model, "model_fields", {}))


def _inner_model(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _inner_model(arg))), None)
