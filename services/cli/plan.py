"""``stillroom plan``: estimate the time and resources of a compression before it is run."""

from __future__ import annotations

import typer

from services.cli.failures import reports_failures
from services.cli.options import (
    DEFAULT_SERVER,
    Json,
    Key,
    Patience,
    RequestFile,
    Server,
    read_request,
)


@reports_failures
def plan(
    file: RequestFile,
    server: Server = DEFAULT_SERVER,
    key: Key = None,
    patience: Patience = None,
    json: Json = False,
) -> None:
    """Check which sub-spaces can meet the budgets, and estimate time and device-hours by a short calibration."""
    from services.cli.reports import exit_code, print_plan, tell_error
    from services.cli.waiting import wait_for, waiting
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        queued = client.plan(read_request(file), key=key)
        with waiting(f"stillroom show {queued.id}"):
            done = wait_for(client, lambda: client.planned(queued.id), patience)
    if json:
        typer.echo(done.model_dump_json(indent=1))
        tell_error(done.error)
    else:
        print_plan(done)
    raise typer.Exit(exit_code(done))
