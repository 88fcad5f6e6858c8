"""``stillroom batch``: several compressions with a common part in one request."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli.failures import reports_failures
from services.cli.job_verbs import add_job_verbs, watch_thing
from services.cli.kinds import BATCH
from services.cli.options import (
    DEFAULT_SERVER,
    After,
    Json,
    Key,
    Labels,
    Patience,
    Server,
    read_document,
    read_labels,
)

BatchId = Annotated[str, typer.Argument(metavar="ID", help="Id of the batch, bat_….", autocompletion=BATCH.complete)]
BatchFile = Annotated[
    Path, typer.Argument(metavar="FILE", help='JSON or YAML with "common" and "compressions"; - for standard input.')
]

app = typer.Typer(name="batch", help="Submit and manage several compressions in one request.", no_args_is_help=True)


@app.command()
@reports_failures
def submit(
    file: BatchFile,
    server: Server = DEFAULT_SERVER,
    key: Key = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show its state until it ends.")] = False,
    patience: Patience = None,
    json: Json = False,
) -> None:
    """Queue all compressions of a batch, or none, and print the batch's id."""
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        found = client.submit_batch(read_document(file), key=key)
    if not watch:
        typer.echo(found.model_dump_json(indent=1) if json else found.id)
        return
    if not json:
        typer.echo(found.id)
    watch_thing(found.id, server, "0-0", patience, json=json)


@app.command("list")
@reports_failures
def list_batches(
    server: Server = DEFAULT_SERVER,
    label: Labels = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Entries of a page.")] = 50,
    after: After = None,
    json: Json = False,
) -> None:
    """List batches, newest first."""
    from services.cli.reports import counts_of
    from services.cli.tables import print_table, when
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        page = client.batches(labels=read_labels(label), limit=limit, after=after)
    if json:
        typer.echo(page.model_dump_json(indent=1))
        return
    rows = [(one.id, one.name, one.status.value, counts_of(one), when(one.created_at)) for one in page.batches]
    print_table("Batches", ("id", "name", "status", "compressions", "created"), rows)
    if page.next is not None:
        typer.echo(f"There are more: --after {page.next}.", err=True)


@app.command()
@reports_failures
def results(
    batch_id: BatchId,
    server: Server = DEFAULT_SERVER,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV on standard output.")] = False,
    json: Json = False,
) -> None:
    """Print one table of all students, over all teachers."""
    from services.cli.tables import print_results
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        if csv:
            typer.echo(client.batch_results_csv(batch_id).decode(), nl=False)
            return
        found = client.batch_results(batch_id)
    if json:
        typer.echo(found.model_dump_json(indent=1))
        return
    print_results(found.results)
    for one in found.unanswered:
        typer.echo(f"{one.compression} ({one.teacher}) is {one.status} and has no students.", err=True)


add_job_verbs(app, BATCH)
