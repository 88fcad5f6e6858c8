"""Content negotiation by the ``Accept`` header."""

from __future__ import annotations


def accepts(accept: str, media_type: str) -> bool:
    """Whether an ``Accept`` header names a media type."""
    return any(one.partition(";")[0].strip().lower() == media_type for one in accept.split(","))
