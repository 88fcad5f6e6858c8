"""Live progress: a table that moves on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from services.cli.failures import FAILED
from services.client import ServerUnreachableError, StillroomClient
from services.jobs.documents import JobDocument, PlanJobDocument, SelectionDocument
from services.jobs.states import JobStatus
from workloads.job_folder import StepDocument

POLL_SECONDS = 0.5
LINE_SECONDS = 10.0
_Waited = TypeVar("_Waited", SelectionDocument, PlanJobDocument)
_MARKS = {"pending": " ", "running": "…", "succeeded": "✓", "failed": "✗"}


def follow_on_server(client: StillroomClient, job_id: str, *, json: bool) -> int:
    """Show a job of a server until it ends, then its outcome.

    Returns:
        The exit code: 0 if it succeeded, else 1.
    """
    client.get(job_id)  # an unknown job, or no server at all, is told at once

    def read() -> JobDocument | None:
        try:
            return client.get(job_id)
        except ServerUnreachableError:
            return None

    return report(show_until_end(read), json=json)


def show_until_end(read: Callable[[], JobDocument | None]) -> JobDocument:
    """Show what ``read`` gives until the job has ended; None while it cannot be had."""
    with ProgressView() as view:
        while True:
            job = read()
            view.show(job)
            if job is not None and job.status.is_terminal:
                return job
            time.sleep(POLL_SECONDS)


def wait_for(read: Callable[[], _Waited]) -> _Waited:
    """Wait for a selection or a plan, telling of its steps; a server that is away for a moment is waited for."""
    console, told = Console(stderr=True), ""
    while True:
        try:
            found = read()
        except ServerUnreachableError:
            time.sleep(POLL_SECONDS)
            continue
        running = [f"{step.name} {_amount(step)}".strip() for step in found.steps if step.status == "running"]
        line = f"{found.id} {found.status}{': ' + '; '.join(running) if running else ''}"
        if line != told:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
            told = line
        if found.status.is_terminal:
            return found
        time.sleep(POLL_SECONDS)


def report(job: JobDocument, *, json: bool) -> int:
    """Print a finished job's outcome and give the exit code."""
    from services.cli.tables import print_students

    if json:
        typer.echo(job.model_dump_json(indent=1))
    elif job.status is JobStatus.SUCCEEDED:
        print_students(job.students, job.infeasible)
    if job.error is not None:
        field = f"{job.error.field}: " if job.error.field else ""
        typer.echo(f"error: {field}{job.error.message} {job.error.remedy or ''}".rstrip(), err=True)
    return 0 if job.status is JobStatus.SUCCEEDED else FAILED


class ProgressView:
    """Shows a job's steps on standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._headline = ""
        self._steps: dict[str, tuple[str, float]] = {}

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, job: JobDocument | None) -> None:
        """Bring the view up to date."""
        if self._live and job is not None:
            self._live.update(_table(job), refresh=True)
            return
        headline = _headline(job)
        if headline != self._headline:
            self._line(headline)
            self._headline = headline
            self._steps = {} if job is not None and job.status is JobStatus.QUEUED else self._steps
        for step in job.steps if job is not None and not self._live else []:
            state, printed = self._steps.get(step.name, ("pending", 0.0))
            due = step.status == "running" and time.monotonic() - printed > LINE_SECONDS
            if step.status != state or due:
                told = step.model_copy(update={"note": None}) if step.status == state else step  # a note once is enough
                self._line(f"  {step.name}: {step.status} {_amount(told)}".rstrip())
                self._steps[step.name] = (step.status, time.monotonic())

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _headline(job: JobDocument | None) -> str:
    if job is None:
        return "The server does not answer; trying again."
    attempt = f", attempt {job.attempt}" if job.attempt > 1 else ""
    reason = f": {job.reason}" if job.reason else ""
    waiting = f" ({job.ray.note})" if not job.status.is_terminal and job.ray.state != "ready" else ""
    return f"{job.id} {job.status}{attempt}{reason}{waiting}"


def _table(job: JobDocument) -> Table:
    table = Table(title=Text(_headline(job)), title_justify="left", box=None, pad_edge=False)
    for column in ("", "step", "progress", "rate", "time left"):
        table.add_column(column)
    for step in job.steps:
        rate = f"{_number(step.rate)} {step.unit}/s" if step.rate is not None else ""
        table.add_row(_MARKS[step.status], Text(step.name), Text(_done(step)), Text(rate), _left(step))
    return table


def _amount(step: StepDocument) -> str:
    rate = f"{_number(step.rate)} {step.unit}/s" if step.rate is not None else ""
    left = f"{_left(step)} left" if _left(step) else ""
    return ", ".join(part for part in (_done(step), rate, left) if part)


def _done(step: StepDocument) -> str:
    amount = ""
    if step.total is not None or step.done:
        total = f"/{step.total:,}" if step.total is not None else ""
        amount = f"{step.done:,}{total} {step.unit}".rstrip()
    reused = "reused" if step.reused else ""
    return "; ".join(part for part in (amount, reused, step.note or "") if part)


def _left(step: StepDocument) -> str:
    if step.seconds_left is None or step.status != "running":
        return ""
    minutes, seconds = divmod(round(step.seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
