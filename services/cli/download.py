"""``stillroom download``: copies of students on this machine's disk."""

from __future__ import annotations

from functools import partial
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
    from services.cli.transfer import TransferView, fetch_all, print_fetched
    from services.client import StillroomClient

    with StillroomClient(server, max_download_bytes=max_bytes) as client, TransferView() as view:
        names = [student] if student else [one.id for one in client.students(job_id).students if one.status == "ready"]
        wanted = {name: partial(client.download, job_id, name) for name in names}
        done = fetch_all(wanted, view, to, extract=extract, again=again)
    print_fetched(done, "student", json=json)
    if not wanted:
        view.line(f"{job_id} has no students yet.")
        raise typer.Exit(FAILED)
