"""``stillroom score``: a student's held-out loss, measured again from its files."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.failures import FAILED, Failure, reports_failures
from services.cli.options import Json
from services.cli.signals import stopping_on_signals

if TYPE_CHECKING:
    from workloads.documents.student_score import LossDocument, ScoreAnswer, StudentScore

_PROGRAM = "workloads.runs.student_score"


@reports_failures
def score(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A student's folder, on this machine.")],
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Folder or hub id of its teacher.", show_default="the storage's copy, else where the request had it"
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILES",
            help="Score on other text: files, folders or globs, as in a request. Repeatable.",
            show_default="the held-out text of the compression",
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="Storage of the compression: a folder, s3://… or gs://…; default: stillroom-data."),
    ] = None,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Rows to score on.", show_default="as many as the recorded loss has")
    ] = None,
    json: Json = False,
) -> None:
    """Measure a student's held-out loss again from its files, and compare it with the recorded one.

    This needs the teacher, and the text that was held out (or other text); no server.
    """
    options = [*_option("--teacher", teacher), *_option("--storage", _storage(storage))]
    options += [part for one in text or () for part in _option("--text", one)]
    options += _option("--rows", rows)
    answer = _answer([*options, "--", str(folder)])
    if (error := answer.input_error()) is not None:
        raise error
    if answer.score is None:
        Failure(FAILED, answer.failure or "The program gave no score.").tell(json=json)
        raise typer.Exit(FAILED)
    if json:
        typer.echo(answer.score.model_dump_json(indent=1))
    else:
        _tell(answer.score)


def _option(name: str, value: str | int | None) -> list[str]:
    return [] if value is None else [f"{name}={value}"]


def _storage(given: str | None) -> str | None:
    """Return the URL of the storage; None if it is the default one and is not there."""
    from services.settings import load_settings
    from workloads.spec.errors import InputError
    from workloads.storage.storage import Storage

    place = Storage.open(load_settings(storage=given).storage)
    if not place.local or Path(place.root).is_dir():
        return place.url
    if given is not None:
        raise InputError.of("--storage", f"There is no storage at {place.url}.", "Correct it, or leave it out.")
    return None


def _answer(arguments: list[str]) -> ScoreAnswer:
    """Run the program that loads the models; this process imports no torch."""
    from workloads.documents.student_score import ANSWER, ScoreAnswer

    with tempfile.TemporaryDirectory(prefix="stillroom-score-") as work:
        # -P: nothing is imported from the current folder. In a session of its own, the program gets no Ctrl-C, and so
        # prints no traceback; if a signal ends us, `run` kills it.
        command = [sys.executable, "-P", "-m", _PROGRAM, f"--work={work}", *arguments]
        quiet = os.environ | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        with stopping_on_signals():
            done = subprocess.run(command, check=False, env=quiet, stdout=subprocess.DEVNULL, start_new_session=True)
        answer = Path(work) / ANSWER
        if done.returncode or not answer.is_file():
            message = f"The scoring ended with the exit code {done.returncode}; its output stands above."
            return ScoreAnswer(failure=message)
        return ScoreAnswer.model_validate_json(answer.read_bytes())


def _tell(score: StudentScore) -> None:
    from services.cli.numbers import losses

    now, recorded = losses([score.heldout_loss, score.recorded.heldout_loss])
    kind = "the compression's held-out text" if score.text == "heldout" else "other text"
    typer.echo(f"loss      {now}{_of(score)} of {score.sequence_length} tokens")
    typer.echo(f"recorded  {recorded}{_of(score.recorded)}{', after the polish' if score.polished else ''}")
    if score.ratio is not None:
        typer.echo(f"ratio     {score.ratio:.4f}")
    typer.echo(f"text      {kind}: {', '.join(score.source)}")
    typer.echo(f"teacher   {score.teacher}")


def _of(loss: LossDocument) -> str:
    spread = "" if loss.spread is None else f" ± {loss.spread:#.2g}"
    return f"{spread}, {loss.rows:,} rows"
