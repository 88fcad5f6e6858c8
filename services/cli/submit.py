"""``stillroom submit``: queue a compression on a server."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.failures import reports_failures
from services.cli.job_verbs import watch_thing
from services.cli.kinds import COMPRESSION
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
def submit(
    file: RequestFile,
    server: Server = DEFAULT_SERVER,
    key: Key = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show the progress until it ends.")] = False,
    patience: Patience = None,
    json: Json = False,
) -> None:
    """Submit a request and print the compression's id; with --watch, --json prints lines as `stillroom watch` does."""
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        job = client.submit(read_request(file), key=key)
    if not watch:
        typer.echo(job.model_dump_json(indent=1) if json else job.id)
        return
    from services.cli.following import document_line

    typer.echo(document_line(COMPRESSION, job) if json else job.id)
    watch_thing(job.id, server, "0-0", patience, json=json)
