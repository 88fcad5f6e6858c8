"""``stillroom log``: the driver log of a job's attempt."""

from __future__ import annotations

from json import dumps
from typing import Annotated

import typer

from services.cli.failures import reports_failures
from services.cli.kinds import BATCH, kind_of
from services.cli.options import DEFAULT_SERVER, Json, Server, ThingId


@reports_failures
def log(
    thing: ThingId,
    attempt: Annotated[int | None, typer.Option(min=1, help="Number of the attempt; default: the latest.")] = None,
    lines: Annotated[int, typer.Option(min=1, max=2000, help="Most lines.")] = 200,
    server: Server = DEFAULT_SERVER,
    json: Json = False,
) -> None:
    """Print the last lines of the driver log of a job's attempt."""
    from services.client import StillroomClient
    from workloads.spec.errors import InputError

    kind = kind_of(thing)
    if kind is BATCH:
        raise InputError.of("ID", "A batch has no log of its own.", "Give the id of one of its compressions.")
    with StillroomClient(server) as client:
        found: bytes = getattr(client, f"log{kind.suffix}")(thing, attempt=attempt, lines=lines)
    text = found.decode(errors="replace")
    typer.echo(dumps({"log": text}) if json else text, nl=json)
