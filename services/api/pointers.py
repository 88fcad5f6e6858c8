"""Fields of a finding as JSON pointers (RFC 6901) into the body that was sent."""

from __future__ import annotations

from typing import Any

_WHOLE_BODY = frozenset({"request", "selection"})
_ELSEWHERE = frozenset({"compression"})


def pointer_to(field: str, body: Any) -> str | None:
    """Give the pointer to a field, or to where it is missing; None where it is not about the body.

    Args:
        field: Dotted path, such as ``budgets.0.max_params``; a key may hold dots itself, as the body tells.
        body: As it was parsed, None where it could not be, or where there is none.
    """
    if body is None:
        return "" if field in _WHOLE_BODY else None
    parts = field.split(".")
    if not (isinstance(body, dict) and parts[0] in body):
        if field in _WHOLE_BODY:
            return ""
        if field in _ELSEWHERE:
            return None
    tokens: list[str] = []
    while parts:
        taken = _key_length(parts, body)
        token = ".".join(parts[:taken])
        parts = parts[taken:]
        tokens.append(token.replace("~", "~0").replace("/", "~1"))
        body = _child(body, token)
    return "".join(f"/{token}" for token in tokens)


def _key_length(parts: list[str], body: Any) -> int:
    """How many parts make up the next key."""
    if isinstance(body, dict):
        for count in range(len(parts), 0, -1):
            if ".".join(parts[:count]) in body:
                return count
    return 1


def _child(body: Any, token: str) -> Any:
    if isinstance(body, dict):
        return body.get(token)
    if isinstance(body, list) and token.isdecimal() and int(token) < len(body):
        return body[int(token)]
    return None
