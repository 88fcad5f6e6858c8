"""``stillroom watch``: live progress of a compression."""

from __future__ import annotations

from services.cli.failures import told_plainly
from services.cli.options import DEFAULT_SERVER, JobId, Json, Server


@told_plainly
def watch(job_id: JobId, server: Server = DEFAULT_SERVER, json: Json = False) -> None:
    """Show a compression's progress until it ends; a restart of the server in between is waited out."""
    import typer

    from services.cli.progress import follow_on_server
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        raise typer.Exit(follow_on_server(client, job_id, json=json))
