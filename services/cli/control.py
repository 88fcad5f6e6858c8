"""``stillroom cancel``, ``resume``, ``delete``: what becomes of a compression."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.failures import told_plainly
from services.cli.options import DEFAULT_SERVER, JobId, Json, Server
from services.cli.outcomes import sure, tell_forgotten, tell_state


@told_plainly
def cancel(job_id: JobId, server: Server = DEFAULT_SERVER, json: Json = False) -> None:
    """Ask for a compression's end; what it has finished is kept."""
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        tell_state(client.cancel(job_id), json=json)


@told_plainly
def resume(job_id: JobId, server: Server = DEFAULT_SERVER, json: Json = False) -> None:
    """Queue a failed or cancelled compression again; what it has finished is not done again."""
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        tell_state(client.resume(job_id), json=json)


@told_plainly
def delete(
    job_id: JobId,
    server: Server = DEFAULT_SERVER,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Forget an ended compression, its selections and evaluations, with their folders; artefacts stay for others."""
    from services.client import StillroomClient

    sure(f"Forget {job_id}?", yes=yes)
    with StillroomClient(server) as client:
        client.delete(job_id)
    tell_forgotten(job_id, json=json)
