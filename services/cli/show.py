"""``stillroom show``: one compression, one of its students, or a plan."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.failures import told_plainly
from services.cli.options import DEFAULT_SERVER, JobId, Json, Server


@told_plainly
def show(
    job_id: JobId,
    student: Annotated[str | None, typer.Argument(metavar="STUDENT", help="One of its students, stu_….")] = None,
    server: Server = DEFAULT_SERVER,
    json: Json = False,
) -> None:
    """Show a compression, or one of its students with its files; or a plan, by its id."""
    from services.cli.progress import print_job, print_plan
    from services.cli.tables import print_files, print_students
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        if student is not None:
            detail = client.student(job_id, student)
            if not json:
                print_students([detail], [])
                print_files(detail.contents)
            found = detail.model_dump_json(indent=1)
        elif job_id.startswith("pln_"):
            plan = client.planned(job_id)
            if not json:
                print_plan(plan)
            found = plan.model_dump_json(indent=1)
        else:
            job = client.get(job_id)
            if not json:
                print_job(job)
            found = job.model_dump_json(indent=1)
    if json:
        typer.echo(found)
