"""``stillroom download``: copies of students on this machine's disk."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from services.cli.failures import FAILED, reports_failures
from services.cli.options import DEFAULT_SERVER, JobId, Json, MaxBytes, Server


@reports_failures
def download(
    job_id: JobId,
    student: Annotated[str | None, typer.Argument(metavar="STUDENT", help="stu_…; default: all of them.")] = None,
    server: Server = DEFAULT_SERVER,
    to: Annotated[Path, typer.Option(help="Folder to put them in.")] = Path(),
    extract: Annotated[bool, typer.Option("--extract", help="A folder each instead of a tar.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Fetch also what is there already.")] = False,
    max_bytes: MaxBytes = None,
    json: Json = False,
) -> None:
    """Download a compression's students. Each appears when it is complete; run the command again to go on."""
    from services.cli.transfer import TransferView
    from services.client import StillroomClient
    from services.client.student_archive import sound_student_id

    done = []
    with StillroomClient(server, max_download_bytes=max_bytes) as client, TransferView() as view:
        wanted = [student] if student else [one.id for one in client.students(job_id).students if one.status == "ready"]
        for one in wanted:
            place = to / (sound_student_id(one) if extract else f"{sound_student_id(one)}.tar")
            there = (place.is_dir() if extract else place.is_file()) and not again
            if there:
                view.line(f"{place} is there already.")
            else:
                place = client.download(job_id, one, to, extract=extract, progress=view.of(one))
            done.append({"student": one, "path": str(place), "fetched": not there})
    if json:
        typer.echo(json_module.dumps({"downloads": done}, indent=1))
    else:
        typer.echo("".join(f"{one['path']}\n" for one in done), nl=False)
    if not wanted:
        view.line(f"{job_id} has no students yet.")
        raise typer.Exit(FAILED)
