"""``stillroom watch``: live progress of a compression."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.failures import told_plainly
from services.cli.options import DEFAULT_SERVER, JobId, Json, Patience, Server


@told_plainly
def watch(
    job_id: JobId,
    server: Server = DEFAULT_SERVER,
    after: Annotated[str, typer.Option(metavar="EVENT", help="Leave out the events up to one, such as 1-12.")] = "0-0",
    patience: Patience = None,
    json: Json = False,
) -> None:
    """Show a compression's progress until it ends; a restart of the server in between is waited out.

    JSON is a line {"event": …} for each event, and {"compression": …} at the end.
    """
    from services.cli.progress import follow

    raise typer.Exit(follow(server, job_id, after=after, patience=patience, json=json))
