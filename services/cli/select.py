"""``stillroom select``: new budgets on a finished compression, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli.failures import FAILED, told_plainly
from services.cli.options import DEFAULT_SERVER, JobId, Json, Server, read_document


@told_plainly
def select(
    job_id: JobId,
    file: Annotated[Path, typer.Argument(metavar="FILE", help='JSON or YAML such as {"budgets": [...]}; - for stdin.')],
    server: Server = DEFAULT_SERVER,
    wait: Annotated[bool, typer.Option(help="Wait until the students' files are there.")] = True,
    json: Json = False,
) -> None:
    """Answer new budgets from a compression's scores; the students' files follow."""
    from services.cli.progress import wait_for
    from services.cli.tables import print_students
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        found = client.select(job_id, read_document(file))
        if wait:
            selection_id = found.id
            found = wait_for(lambda: client.selection(job_id, selection_id))
    if json:
        typer.echo(found.model_dump_json(indent=1))
    else:
        print_students(found.students, found.infeasible)
    if found.error is not None:
        typer.echo(f"error: {found.error.message} {found.error.remedy or ''}".rstrip(), err=True)
        raise typer.Exit(FAILED)
