"""``stillroom submit``: queue a compression on a server."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.failures import told_plainly
from services.cli.options import (
    DEFAULT_SERVER,
    Json,
    Key,
    Patience,
    RequestFile,
    Server,
    read_request,
)


@told_plainly
def submit(
    file: RequestFile,
    server: Server = DEFAULT_SERVER,
    key: Key = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show the progress until it ends.")] = False,
    patience: Patience = None,
    json: Json = False,
) -> None:
    """Submit a request and print the compression's id; with --watch, JSON is lines as of `stillroom watch`."""
    from services.cli.progress import compression_line, follow
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        job = client.submit(read_request(file), key=key)
    if not watch:
        typer.echo(job.model_dump_json(indent=1) if json else job.id)
        return
    typer.echo(compression_line(job) if json else job.id)
    raise typer.Exit(follow(server, job.id, after="0-0", patience=patience, json=json))
