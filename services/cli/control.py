"""``stillroom cancel``, ``resume``, ``delete``: what becomes of a compression."""

from __future__ import annotations

import json as json_module
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.failures import told_plainly
from services.cli.options import DEFAULT_SERVER, JobId, Json, Server

if TYPE_CHECKING:
    from services.jobs.documents import JobDocument


@told_plainly
def cancel(job_id: JobId, server: Server = DEFAULT_SERVER, json: Json = False) -> None:
    """Ask for a compression's end; what it has finished is kept."""
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        _tell(client.cancel(job_id), json=json)


@told_plainly
def resume(job_id: JobId, server: Server = DEFAULT_SERVER, json: Json = False) -> None:
    """Queue a failed or cancelled compression again; what it has finished is not done again."""
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        _tell(client.resume(job_id), json=json)


@told_plainly
def delete(
    job_id: JobId,
    server: Server = DEFAULT_SERVER,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Forget an ended compression, its selections and their folders; artefacts stay for others to use."""
    from services.client import StillroomClient

    sure(f"Forget {job_id}?", yes=yes)
    with StillroomClient(server) as client:
        client.delete(job_id)
    typer.echo(json_module.dumps({"deleted": job_id}) if json else f"{job_id} is forgotten.")


def sure(question: str, *, yes: bool) -> None:
    """Have a person say yes, where there is one.

    Raises:
        InputError: There is none, and ``--yes`` is not given.
    """
    import sys

    from workloads.errors import InputError

    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError.of("--yes", "It cannot be undone, and nobody can be asked.", "Give --yes.")
    if not typer.confirm(question, err=True):
        raise typer.Exit(0)


def _tell(job: JobDocument, *, json: bool) -> None:
    typer.echo(job.model_dump_json(indent=1) if json else f"{job.id} is {job.status}.")
