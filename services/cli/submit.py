"""``stillroom submit``: queue a compression on a server."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.failures import told_plainly
from services.cli.options import DEFAULT_SERVER, Json, RequestFile, Server, read_request


@told_plainly
def submit(
    file: RequestFile,
    server: Server = DEFAULT_SERVER,
    watch: Annotated[bool, typer.Option("--watch", help="Show the progress until it ends.")] = False,
    json: Json = False,
) -> None:
    """Submit a request and print the compression's id."""
    from services.cli.progress import follow_on_server
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        job = client.submit(read_request(file))
        if not watch:
            typer.echo(job.model_dump_json(indent=1) if json else job.id)
            return
        if not json:
            typer.echo(job.id)
        raise typer.Exit(follow_on_server(client, job.id, json=json))
