"""``stillroom events``: the events of a job, over all attempts."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.failures import reports_failures
from services.cli.job_verbs import After
from services.cli.options import DEFAULT_SERVER, Json, Patience, Server, ThingId


@reports_failures
def events(
    thing: ThingId,
    server: Server = DEFAULT_SERVER,
    after: After = "0-0",
    follow: Annotated[
        bool, typer.Option("--follow", help="Print events as they happen, until the job has ended.")
    ] = False,
    patience: Patience = None,
    json: Json = False,
) -> None:
    """List the events of a job; with --json, one event per line."""
    from services.cli.following import show_events

    show_events(server, thing, after, follow=follow, patience=patience, json=json)
