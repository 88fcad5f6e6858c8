"""Completion of ids in the shell, by a request to the server with a short timeout.

Loading the client's models would take longer than a person waits for a TAB, so this module sends its own request.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import typer

SECONDS = 2.0
NEWEST = 50


def complete_compression(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """List the newest compressions, with their state and teacher."""
    return _newest(context, "compressions", incomplete, lambda one: f"{one['status']}, {one['teacher']}")


def complete_batch(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """List the newest batches, with their state and name."""
    return _newest(context, "batches", incomplete, lambda one: ", ".join(filter(None, (one["status"], one["name"]))))


def complete_evaluation(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """List the newest evaluations, with their state and task."""
    return _newest(context, "evaluations", incomplete, lambda one: f"{one['status']}, {one['name']}")


def _newest(
    context: typer.Context, kind: str, incomplete: str, words: Callable[[dict[str, Any]], str]
) -> list[tuple[str, str]]:
    """List the ids with the typed beginning, each with a description."""
    import httpx

    from services.network import route_to

    server = str(context.params["server"]).rstrip("/")
    key = os.environ.get("STILLROOM_API_KEY", "").strip()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx.Client(headers=headers, timeout=SECONDS, **route_to(server).options()) as client:
            answer = client.get(f"{server}/v1/{kind}", params={"limit": NEWEST})
        found = answer.raise_for_status().json()[kind]
        return [(one["id"], words(one)) for one in found if one["id"].startswith(incomplete)]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, AttributeError):
        return []  # an error message would garble the shell's line
