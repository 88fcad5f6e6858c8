"""``stillroom evaluate``: evaluations of a student or a teacher on a labelled task."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from services.cli.failures import FAILED, reports_failures
from services.cli.job_verbs import add_job_verbs
from services.cli.kinds import EVALUATION
from services.cli.options import DEFAULT_SERVER, After, Json, Key, MaxBytes, Patience, Server, read_document

EvaluationFile = Annotated[
    Path, typer.Argument(metavar="FILE", help='JSON or YAML with "model" and "task"; - for standard input.')
]

app = typer.Typer(name="evaluate", help="Evaluate students and teachers on labelled tasks.", no_args_is_help=True)


@app.command()
@reports_failures
def submit(
    file: EvaluationFile,
    server: Server = DEFAULT_SERVER,
    key: Key = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the scores and print them.")] = False,
    patience: Patience = None,
    json: Json = False,
) -> None:
    """Queue an evaluation and print its id, or its scores."""
    from services.cli.reports import exit_code, print_document, tell_error
    from services.cli.waiting import wait_for, waiting
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        found = client.evaluate(read_document(file), key=key)
        if not wait:
            typer.echo(found.model_dump_json(indent=1) if json else found.id)
            return
        evaluation_id = found.id
        with waiting(f"stillroom show {evaluation_id}"):
            found = wait_for(client, lambda: client.evaluation(evaluation_id), patience)
    if json:
        typer.echo(found.model_dump_json(indent=1))
        tell_error(found.error)
    else:
        print_document(found)
    raise typer.Exit(exit_code(found))


@app.command("list")
@reports_failures
def list_evaluations(
    server: Server = DEFAULT_SERVER,
    compression: Annotated[str | None, typer.Option(help="Only evaluations of this compression's students.")] = None,
    student: Annotated[str | None, typer.Option(help="Only evaluations of this student.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Entries of a page.")] = 50,
    after: After = None,
    json: Json = False,
) -> None:
    """List evaluations, newest first."""
    from services.cli.reports import model_of
    from services.cli.tables import print_table, when
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        page = client.evaluations(compression=compression, student=student, limit=limit, after=after)
    if json:
        typer.echo(page.model_dump_json(indent=1))
        return
    rows = [
        (one.id, one.name, model_of(one), one.status.value, one.result.mean if one.result else None,
         when(one.created_at))
        for one in page.evaluations
    ]  # fmt: skip
    print_table("Evaluations", ("id", "task", "model", "status", "score", "created"), rows)
    if page.next is not None:
        typer.echo(f"There are more: --after {page.next}.", err=True)


@app.command()
@reports_failures
def download(
    evaluation_id: Annotated[
        str, typer.Argument(metavar="ID", help="Id of the evaluation, evl_….", autocompletion=EVALUATION.complete)
    ],
    seed: Annotated[int | None, typer.Argument(metavar="SEED", help="A seed; default: all of them.")] = None,
    server: Server = DEFAULT_SERVER,
    to: Annotated[Path, typer.Option(help="Folder to put them in.")] = Path(),
    extract: Annotated[bool, typer.Option("--extract", help="A folder each instead of a tar.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Fetch also what is there already.")] = False,
    max_bytes: MaxBytes = None,
    json: Json = False,
) -> None:
    """Download the models that an evaluation has kept. Each appears when it is complete."""
    from services.cli.transfer import TransferView, fetch_all, print_fetched
    from services.client import StillroomClient

    with StillroomClient(server, max_download_bytes=max_bytes) as client, TransferView() as view:
        found = [one for one in client.models(evaluation_id).models if seed is None or one.seed == seed]
        wanted = {one.id: partial(client.download_model, evaluation_id, one.id) for one in found}
        done = fetch_all(wanted, view, to, extract=extract, again=again)
        if not found:
            view.line(
                f'{evaluation_id} has kept no such model: "keep_model": true in a request keeps one of each seed.'
            )
    print_fetched(done, "model", json=json)
    if not found:
        raise typer.Exit(FAILED)


add_job_verbs(app, EVALUATION)
