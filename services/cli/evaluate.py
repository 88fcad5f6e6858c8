"""``stillroom evaluate``: a student or a teacher on a labelled task."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.completion import complete_evaluation
from services.cli.failures import FAILED, told_plainly
from services.cli.options import (
    DEFAULT_SERVER,
    After,
    Json,
    Key,
    Patience,
    Server,
    read_document,
)
from services.cli.outcomes import sure, tell_forgotten, tell_state

if TYPE_CHECKING:
    from services.jobs.documents import EvaluationDocument

EvaluationId = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the evaluation, evl_….", autocompletion=complete_evaluation)
]
EvaluationFile = Annotated[
    Path, typer.Argument(metavar="FILE", help='JSON or YAML with "model" and "task"; - for standard input.')
]

app = typer.Typer(name="evaluate", help="Score students and teachers on labelled tasks.", no_args_is_help=True)


@app.command()
@told_plainly
def submit(
    file: EvaluationFile,
    server: Server = DEFAULT_SERVER,
    key: Key = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the scores and print them.")] = False,
    patience: Patience = None,
    json: Json = False,
) -> None:
    """Queue an evaluation and print its id, or its scores."""
    from services.cli.progress import wait_for, waiting
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        found = client.evaluate(read_document(file), key=key)
        if not wait:
            typer.echo(found.model_dump_json(indent=1) if json else found.id)
            return
        evaluation_id = found.id
        with waiting(f"stillroom evaluate show {evaluation_id}"):
            found = wait_for(client, lambda: client.evaluation(evaluation_id), patience)
    _tell(found, json=json)
    if found.status != "succeeded":
        raise typer.Exit(FAILED)


@app.command()
@told_plainly
def show(evaluation_id: EvaluationId, server: Server = DEFAULT_SERVER, json: Json = False) -> None:
    """Show where an evaluation stands, and its scores."""
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        _tell(client.evaluation(evaluation_id), json=json)


@app.command()
@told_plainly
def watch(
    evaluation_id: EvaluationId,
    server: Server = DEFAULT_SERVER,
    after: Annotated[str, typer.Option(metavar="EVENT", help="Leave out the events up to one, such as 1-12.")] = "0-0",
    patience: Patience = None,
    json: Json = False,
) -> None:
    """Show an evaluation's progress until it ends; a restart of the server in between is waited out.

    JSON is a line {"event": …} for each event, and {"evaluation": …} at the end.
    """
    from services.cli.progress import follow_evaluation, tell_error

    found = follow_evaluation(server, evaluation_id, after=after, patience=patience, json=json)
    if json:
        typer.echo(f'{{"evaluation": {found.model_dump_json()}}}')
        tell_error(found.error)
    else:
        _tell(found, json=False)
    if found.status != "succeeded":
        raise typer.Exit(FAILED)


@app.command()
@told_plainly
def events(
    evaluation_id: EvaluationId,
    server: Server = DEFAULT_SERVER,
    after: Annotated[str, typer.Option(metavar="EVENT", help="Those after one, such as 1-12.")] = "0-0",
    follow: Annotated[bool, typer.Option("--follow", help="As they come, until the evaluation has ended.")] = False,
    patience: Patience = None,
    json: Json = False,
) -> None:
    """List what happened; JSON is one event a line."""
    from services.cli.progress import show_events

    show_events(server, evaluation_id, "stillroom evaluate events", after, follow=follow, patience=patience, json=json)


@app.command("list")
@told_plainly
def list_evaluations(
    server: Server = DEFAULT_SERVER,
    compression: Annotated[str | None, typer.Option(help="Those of a compression's students.")] = None,
    student: Annotated[str | None, typer.Option(help="Those of one student.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="On a page.")] = 50,
    after: After = None,
    json: Json = False,
) -> None:
    """List evaluations, newest first."""
    from services.cli.tables import print_table, when
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        page = client.evaluations(compression=compression, student=student, limit=limit, after=after)
    if json:
        typer.echo(page.model_dump_json(indent=1))
        return
    rows = [
        [
            one.id,
            one.name,
            _model(one),
            one.status,
            f"{one.result.mean:.4f}" if one.result else "",
            when(one.created_at),
        ]
        for one in page.evaluations
    ]
    print_table("Evaluations", ("id", "task", "model", "status", "score", "created"), rows)
    if page.next is not None:
        typer.echo(f"There are more: --after {page.next}.", err=True)


@app.command()
@told_plainly
def cancel(evaluation_id: EvaluationId, server: Server = DEFAULT_SERVER, json: Json = False) -> None:
    """Ask for an evaluation's end; seeds that have ended are kept."""
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        found = client.cancel_evaluation(evaluation_id)
    tell_state(found, json=json)


@app.command()
@told_plainly
def resume(evaluation_id: EvaluationId, server: Server = DEFAULT_SERVER, json: Json = False) -> None:
    """Queue a failed or cancelled evaluation again; seeds that have ended are not fine-tuned again."""
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        found = client.resume_evaluation(evaluation_id)
    tell_state(found, json=json)


@app.command()
@told_plainly
def delete(
    evaluation_id: EvaluationId,
    server: Server = DEFAULT_SERVER,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Forget an ended evaluation; the scores of its seeds stay for others to use."""
    from services.client import StillroomClient

    sure(f"Forget {evaluation_id}?", yes=yes)
    with StillroomClient(server) as client:
        client.delete_evaluation(evaluation_id)
    tell_forgotten(evaluation_id, json=json)


def _tell(found: EvaluationDocument, *, json: bool) -> None:
    from services.cli.progress import tell_error
    from services.cli.tables import print_table

    if json:
        typer.echo(found.model_dump_json(indent=1))
    elif found.result is None:
        typer.echo(f"{found.id} ({found.name}, {_model(found)}) is {found.status}.")
    else:
        result = found.result
        spread = f" ± {result.std:.4f}" if result.std is not None else ""
        typer.echo(
            f"{found.name}: {result.metric} {result.mean:.4f}{spread} over {len(result.seeds)} seeds "
            f"on {result.rows:,} rows; always the same answer scores {result.baseline.score:.4f}."
        )
        rows = [[str(one.seed), f"{one.score:.4f}", str(one.epoch), f"{one.learning_rate:g}"] for one in result.seeds]
        print_table("Seeds", ("seed", "score", "epoch", "learning rate"), rows, numbers={"seed", "score", "epoch"})
    tell_error(found.error)


def _model(found: EvaluationDocument) -> str:
    model = found.model
    if model is None:
        return ""
    return model.student or (model.teacher.model if model.teacher else "")
