"""Masking of secrets in texts, as a last defence.

It masks the values of secret environment variables, and texts that look like a secret. Our own code puts no secret
into a text, but errors of libraries quote their arguments.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping
from typing import Any
from urllib.parse import unquote, urlsplit

MASK = "***"
_ENDINGS = ("_TOKEN", "_SECRET", "_PASSWORD", "_API_KEY", "_SECRET_ACCESS_KEY", "_SECRET_KEY")
_URLS = ("STILLROOM_DATABASE",)
_SHORTEST = 6
"""Shortest secret that is masked; a shorter one would mask parts of words."""
_PATTERNS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(srk_[0-9a-f]{8}_)[A-Za-z0-9_-]{16,}", rf"\1{MASK}"),
        (r"\bhf_[A-Za-z0-9]{16,}", f"hf_{MASK}"),
        (r"(?i)\b(bearer\s+)[^\s'\",]+", rf"\1{MASK}"),
        (r"(://[^/\s:@]*:)[^/\s@]+@", rf"\1{MASK}@"),
        (r"(?i)\b((?:secret_key|secret_access_key|session_token|password|token)=)[^&\s'\",]+", rf"\1{MASK}"),
    )
)


def mask(text: str) -> str:
    """Replace the secrets in a text."""
    for secret in _of_environment():
        text = text.replace(secret, MASK)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def mask_all(value: Any) -> Any:
    """Mask all texts of JSON-like data; another object whose text holds a secret is replaced by its masked text."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {mask_all(name): mask_all(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [mask_all(each) for each in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    masked = mask(text)
    return value if masked == text else masked


def mask_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Mask a whole event; a structlog processor."""
    return {name: mask_all(value) for name, value in event.items()}


def _of_environment() -> list[str]:
    found = {value for name, value in os.environ.items() if name.upper().endswith(_ENDINGS)}
    for name in _URLS:
        try:
            password = urlsplit(os.environ.get(name, "")).password or ""
        except ValueError:
            continue
        found |= {password, unquote(password)}
    return sorted((one for one in found if len(one) >= _SHORTEST), key=len, reverse=True)
