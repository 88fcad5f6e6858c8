"""``stillroom show``: a job or a batch, or a student of a compression."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.failures import reports_failures
from services.cli.job_verbs import show_thing
from services.cli.options import DEFAULT_SERVER, Json, Server, ThingId


@reports_failures
def show(
    thing: ThingId,
    student: Annotated[str | None, typer.Argument(metavar="STUDENT", help="A compression's student, stu_….")] = None,
    server: Server = DEFAULT_SERVER,
    json: Json = False,
) -> None:
    """Show a compression, selection, plan, evaluation or batch; or a student of a compression, with its files."""
    if student is None:
        show_thing(thing, server, json=json)
        return
    from services.cli.tables import print_files, print_students
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        detail = client.student(thing, student)
    if json:
        typer.echo(detail.model_dump_json(indent=1))
        return
    print_students([detail], [])
    print_files(detail.contents)
