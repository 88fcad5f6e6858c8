"""``stillroom students``: the students of a compression, and their files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli.failures import FAILED, reports_failures
from services.cli.options import DEFAULT_SERVER, JobId, Json, MaxBytes, Server


@reports_failures
def students(
    job_id: JobId,
    server: Server = DEFAULT_SERVER,
    download: Annotated[Path | None, typer.Option(help="Fetch every student into a folder below this one.")] = None,
    max_bytes: MaxBytes = None,
    json: Json = False,
) -> None:
    """List and download the students of a compression."""
    from services.cli.tables import print_students
    from services.client import StillroomClient

    with StillroomClient(server, max_download_bytes=max_bytes) as client:
        found = client.students(job_id)
        if download is not None:
            places = {student.id: client.download(job_id, student.id, download) for student in found.students}
            moved = [student.model_copy(update={"files": str(places[student.id])}) for student in found.students]
            found = found.model_copy(update={"students": moved})
        if json:
            typer.echo(found.model_dump_json(indent=1))
            return
        if not found.students and not found.infeasible:
            typer.echo(f"{job_id} is {client.get(job_id).status} and has no students.", err=True)
            raise typer.Exit(FAILED)
        print_students(found.students, found.infeasible)
