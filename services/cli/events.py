"""``stillroom events``: what happened to a compression, over all attempts."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.failures import told_plainly
from services.cli.options import DEFAULT_SERVER, JobId, Json, Patience, Server


@told_plainly
def events(
    job_id: JobId,
    server: Server = DEFAULT_SERVER,
    after: Annotated[str, typer.Option(metavar="EVENT", help="Those after one, such as 1-12.")] = "0-0",
    follow: Annotated[bool, typer.Option("--follow", help="As they come, until the compression has ended.")] = False,
    patience: Patience = None,
    json: Json = False,
) -> None:
    """List what happened; JSON is one event a line."""
    from services.cli.progress import show_events

    show_events(server, job_id, "stillroom events", after, follow=follow, patience=patience, json=json)
