"""JSON that others wrote: whatever the text holds, reading it gives a document or a :class:`JsonError`."""

from __future__ import annotations

import itertools
import json
from typing import Any

_SHOWN = 60
"""Characters of a wrong text that a message repeats, at most."""
_ENTRIES = 8


class JsonError(ValueError):
    """A text that is no JSON that we read; the message goes after "is" or "it is"."""


def parse_json(text: bytes | str) -> Any:
    """Parse a JSON text in UTF-8.

    The caller bounds the length: parsing takes about a second for 100 MB.

    Raises:
        JsonError: It is no JSON, not UTF-8, or nested beyond what Python's stack holds.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise JsonError("nested too deeply") from None
    except UnicodeDecodeError as error:
        raise JsonError(f"not UTF-8 (byte {error.start})") from None
    except ValueError as error:  # of a number of thousands of digits too
        raise JsonError(f"not valid JSON ({str(error)[:_SHOWN]})") from None


def shown(value: Any) -> str:
    """A value for a message, short and printable; of what is nested no more than the outermost level is looked at."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict | list):
        inside = itertools.islice(value.values() if isinstance(value, dict) else value, _ENTRIES + 1)
        if len(value) > _ENTRIES or any(isinstance(one, dict | list) for one in inside):
            return f"an object of {len(value):,}" if isinstance(value, dict) else f"a list of {len(value):,}"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
