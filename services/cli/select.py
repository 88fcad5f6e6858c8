"""``stillroom select``: new budgets on a finished compression, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli.failures import FAILED, reports_failures
from services.cli.options import DEFAULT_SERVER, JobId, Json, Key, Patience, Server, read_document


@reports_failures
def select(
    job_id: JobId,
    file: Annotated[Path, typer.Argument(metavar="FILE", help='JSON or YAML such as {"budgets": [...]}; - for stdin.')],
    server: Server = DEFAULT_SERVER,
    key: Key = None,
    wait: Annotated[bool, typer.Option(help="Wait until the students' files exist.")] = True,
    patience: Patience = None,
    json: Json = False,
) -> None:
    """Answer new budgets from a compression's scores; a run then makes the students' files."""
    from services.cli.reports import tell_error
    from services.cli.tables import print_selection
    from services.cli.waiting import wait_for, waiting
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        found = client.select(job_id, read_document(file), key=key)
        if wait:
            selection_id = found.id
            with waiting(f"stillroom show {selection_id}"):
                found = wait_for(client, lambda: client.selection(selection_id), patience)
    if json:
        typer.echo(found.model_dump_json(indent=1))
    else:
        print_selection(found)
    if found.error is not None:
        tell_error(found.error)
        raise typer.Exit(FAILED)
