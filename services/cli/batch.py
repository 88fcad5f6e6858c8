"""``stillroom batch``: several teachers and a common part in one request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.completion import complete_batch
from services.cli.failures import FAILED, told_plainly
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
from services.cli.outcomes import sure, tell_forgotten, tell_state

if TYPE_CHECKING:
    from services.api.batch_schemas import BatchDocument, BatchSummary

BatchId = Annotated[str, typer.Argument(metavar="ID", help="Id of the batch, bat_….", autocompletion=complete_batch)]
BatchFile = Annotated[
    Path, typer.Argument(metavar="FILE", help='JSON or YAML with "common" and "compressions"; - for standard input.')
]

app = typer.Typer(name="batch", help="Compress several teachers by one request.", no_args_is_help=True)


@app.command()
@told_plainly
def submit(
    file: BatchFile,
    server: Server = DEFAULT_SERVER,
    key: Key = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show where it stands until it ends.")] = False,
    patience: Patience = None,
    json: Json = False,
) -> None:
    """Queue a batch, all of it or nothing, and print its id."""
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        found = client.submit_batch(read_document(file), key=key)
    if not watch or not json:
        typer.echo(found.model_dump_json(indent=1) if json else found.id)
    if watch:
        _follow(server, found.id, patience, json=json)


@app.command()
@told_plainly
def show(batch_id: BatchId, server: Server = DEFAULT_SERVER, json: Json = False) -> None:
    """Show a batch and where each of its compressions stands."""
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        _tell(client.batch(batch_id), json=json)


@app.command()
@told_plainly
def watch(batch_id: BatchId, server: Server = DEFAULT_SERVER, patience: Patience = None, json: Json = False) -> None:
    """Show where a batch stands until all of it has ended; it fails unless all of it succeeds."""
    _follow(server, batch_id, patience, json=json)


@app.command("list")
@told_plainly
def list_batches(
    server: Server = DEFAULT_SERVER,
    label: Labels = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="On a page.")] = 50,
    after: After = None,
    json: Json = False,
) -> None:
    """List batches, newest first."""
    from services.cli.tables import print_table, when
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        page = client.batches(labels=read_labels(label), limit=limit, after=after)
    if json:
        typer.echo(page.model_dump_json(indent=1))
        return
    rows = [[one.id, one.name or "", one.status, _counts(one), when(one.created_at)] for one in page.batches]
    print_table("Batches", ("id", "name", "status", "compressions", "created"), rows)
    if page.next is not None:
        typer.echo(f"There are more: --after {page.next}.", err=True)


@app.command()
@told_plainly
def cancel(batch_id: BatchId, server: Server = DEFAULT_SERVER, json: Json = False) -> None:
    """Ask for the end of all that has not ended."""
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        found = client.cancel_batch(batch_id)
    tell_state(found, json=json)


@app.command()
@told_plainly
def retry(batch_id: BatchId, server: Server = DEFAULT_SERVER, json: Json = False) -> None:
    """Queue the failed and cancelled compressions again; what they have finished is not done again."""
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        found = client.retry_batch(batch_id)
    tell_state(found, json=json)


@app.command()
@told_plainly
def delete(
    batch_id: BatchId,
    server: Server = DEFAULT_SERVER,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Forget an ended batch, its compressions and their folders; artefacts stay for others to use."""
    from services.client import StillroomClient

    sure(f"Forget {batch_id} and its compressions?", yes=yes)
    with StillroomClient(server) as client:
        client.delete_batch(batch_id)
    tell_forgotten(batch_id, json=json)


@app.command()
@told_plainly
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


def _follow(server: str, batch_id: str, patience: float | None, *, json: bool) -> None:
    from services.cli.progress import wait_for_batch, waiting
    from services.client import StillroomClient

    with StillroomClient(server) as client, waiting(f"stillroom batch watch {batch_id}"):
        done = wait_for_batch(client, batch_id, patience)
    _tell(done, json=json)
    if done.status != "succeeded":
        raise typer.Exit(FAILED)


def _tell(batch: BatchDocument, *, json: bool) -> None:
    from services.cli.tables import print_table

    if json:
        typer.echo(batch.model_dump_json(indent=1))
        return
    name = f" ({batch.name})" if batch.name else ""
    typer.echo(f"{batch.id}{name} is {batch.status}: {_counts(batch)}.")
    rows = [[one.id, one.teacher, one.status, one.reason or ""] for one in batch.compressions]
    print_table("Compressions", ("id", "teacher", "status", "reason"), rows)


def _counts(batch: BatchSummary) -> str:
    from services.jobs.states import JobStatus

    return ", ".join(f"{batch.counts[status]} {status}" for status in JobStatus if status in batch.counts)
