"""Ids for the shell to complete: asked of the server, quickly or not at all.

The client's models take longer to load than a person waits for a TAB, so the request is made by hand here.
"""

from __future__ import annotations

import os
from typing import Any

import typer

SECONDS = 2.0
NEWEST = 50


def complete_compression(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Give the newest compressions, with their state and teacher."""
    found = _newest(context, "compressions", incomplete)
    return [(one["id"], f"{one['status']}, {one['request']['teacher']['model']}") for one in found]


def complete_batch(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Give the newest batches, with their state and name."""
    found = _newest(context, "batches", incomplete)
    return [(one["id"], ", ".join(filter(None, (one["status"], one["name"])))) for one in found]


def complete_evaluation(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Give the newest evaluations, with their state and task."""
    found = _newest(context, "evaluations", incomplete)
    return [(one["id"], f"{one['status']}, {one['name']}") for one in found]


def _newest(context: typer.Context, kind: str, incomplete: str) -> list[Any]:
    import httpx

    server = str(context.params["server"]).rstrip("/")
    key = os.environ.get("STILLROOM_API_KEY", "").strip()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx.get(f"{server}/v1/{kind}", params={"limit": NEWEST}, headers=headers, timeout=SECONDS)
        found = answer.raise_for_status().json()[kind]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError):
        return []  # a shell's line is no place for errors
    return [one for one in found if one["id"].startswith(incomplete)]
