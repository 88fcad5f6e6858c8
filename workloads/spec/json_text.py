"""Parsing of JSON from outside: any text results in a document or in a :class:`JsonError`."""

from __future__ import annotations

import itertools
import json
from typing import Any

_SHOWN = 60
"""Most characters of a wrong value that a message repeats."""
_ENTRIES = 8


class JsonError(ValueError):
    """A text that cannot be read as JSON; the message is to stand after "is"."""


def parse_json(text: bytes | str) -> Any:
    """Parse a JSON text in UTF-8.

    The caller bounds the length: parsing takes about a second for 100 MB.

    Raises:
        JsonError: The text is not valid JSON, not UTF-8, or nested too deeply for Python's stack.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise JsonError("nested too deeply") from None
    except UnicodeDecodeError as error:
        raise JsonError(f"not UTF-8 (byte {error.start})") from None
    except ValueError as error:  # also raised for a number of thousands of digits
        raise JsonError(f"not valid JSON ({str(error)[:_SHOWN]})") from None


def shown(value: Any) -> str:
    """Return a value as a short, printable text for a message; only the outermost level of a nested value is read."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict | list):
        inside = itertools.islice(value.values() if isinstance(value, dict) else value, _ENTRIES + 1)
        if len(value) > _ENTRIES or any(isinstance(one, dict | list) for one in inside):
            return f"an object of {len(value):,}" if isinstance(value, dict) else f"a list of {len(value):,}"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
