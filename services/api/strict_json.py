"""Strict JSON parser for bodies, in linear time.

It refuses NaN, duplicate names and lone surrogates (which UTF-8 cannot encode). Python's parser accepts all three.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from workloads.spec.errors import FieldError, InputError

MAX_DEPTH = 64
MAX_VALUES = 100_000
"""Limit of values in a body, nested ones included; a batch of 200 full requests has about 20,000."""
MAX_NAMES = 256
"""Limit of names in one object; the largest object of a request has about twenty, and up to 16 labels."""
_REMEDY = "Send JSON (RFC 8259) in UTF-8."

_Trail = tuple[Any, ...] | None
"""Path to a value, as a linked list from its end: the last name, then the path before it."""


def parse(body: bytes) -> Any:
    """Read a body.

    Raises:
        InputError: The body is not valid JSON, or exceeds a limit.
    """
    try:
        data = json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise _refused((), "It is not in UTF-8.") from None
    except RecursionError:
        raise _refused((), f"It is nested more than {MAX_DEPTH} deep.") from None
    except ValueError as error:  # from json, from int for thousands of digits, or from our hooks
        raise _refused((), f"It cannot be read: {error}.") from None
    _check(data)
    return data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        doubled = next((name for name in names[:MAX_NAMES] if names.count(name) > 1), "a name")
        raise ValueError(f"the name {doubled!r} occurs twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not valid in JSON")


def _check(data: Any) -> None:
    left: list[tuple[Any, int, _Trail]] = [(data, 0, None)]
    seen = 0
    while left:
        value, depth, trail = left.pop()
        seen += 1
        if isinstance(value, dict | list):
            if depth >= MAX_DEPTH:
                raise _refused(_path(trail), f"It is nested more than {MAX_DEPTH} deep.")
            if isinstance(value, dict) and len(value) > MAX_NAMES:
                raise _refused(_path(trail), f"It has more than {MAX_NAMES} names.", "Leave out unneeded names.")
            if seen + len(left) + len(value) > MAX_VALUES:
                raise _refused((), f"It has more than {MAX_VALUES:,} values.", "Send fewer values in one request.")
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for name, inner in items:
                if isinstance(name, str) and not _is_text(name):
                    raise _refused(_path(trail), "A name has half of a surrogate pair, which is not a character.")
                left.append((inner, depth + 1, (name, trail)))
        elif isinstance(value, str):
            if not _is_text(value):
                raise _refused(_path(trail), "It has half of a surrogate pair, which is not a character.")
        elif isinstance(value, float) and not math.isfinite(value):
            raise _refused(_path(trail), "The number is too large.", "Use a finite number.")


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _path(trail: _Trail) -> tuple[str, ...]:
    path: list[str] = []
    while trail is not None:
        name, trail = trail
        path.append(str(name))
    return tuple(reversed(path))


def _refused(path: tuple[str, ...], problem: str, remedy: str = _REMEDY) -> InputError:
    return InputError([FieldError(".".join(path) or "request", problem, remedy, path)])
