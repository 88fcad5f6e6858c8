"""``stillroom cancel``, ``resume``, ``delete``: what becomes of a compression, a selection, a plan or an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.failures import told_plainly
from services.cli.options import DEFAULT_SERVER, JobId, Json, Server
from services.cli.outcomes import sure, tell_forgotten, tell_state

if TYPE_CHECKING:
    from services.client import StillroomClient


@told_plainly
def cancel(job_id: JobId, server: Server = DEFAULT_SERVER, json: Json = False) -> None:
    """Ask for a job's end; what it has finished is kept."""
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        tell_state(_call(client, "cancel", job_id), json=json)


@told_plainly
def resume(job_id: JobId, server: Server = DEFAULT_SERVER, json: Json = False) -> None:
    """Queue a failed or cancelled job again; what it has finished is not done again."""
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        tell_state(_call(client, "resume", job_id), json=json)


@told_plainly
def delete(
    job_id: JobId,
    server: Server = DEFAULT_SERVER,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Forget an ended job (a compression with its selections and evaluations); artefacts stay for others."""
    from services.client import StillroomClient

    sure(f"Forget {job_id}?", yes=yes)
    with StillroomClient(server) as client:
        _call(client, "delete", job_id)
    tell_forgotten(job_id, json=json)


def _call(client: StillroomClient, verb: str, job_id: str) -> Any:
    kinds = {"sel": "_selection", "pln": "_plan", "evl": "_evaluation"}
    return getattr(client, f"{verb}{kinds.get(job_id.partition('_')[0], '')}")(job_id)
