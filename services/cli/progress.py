"""Live progress: a table that moves on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, islice
from types import TracebackType
from typing import Self, TypeVar

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from services.api.batch_schemas import BatchDocument
from services.cli.failures import FAILED
from services.cli.options import DEFAULT_PATIENCE
from services.cli.tables import print_students, teacher_of, when
from services.client import ApiError, AsyncStillroomClient, ServerUnreachableError, StillroomClient, place_of
from services.jobs.documents import EvaluationDocument, EventEntry, JobDocument, PlanJobDocument, SelectionDocument
from services.jobs.states import JobStatus
from workloads.documents.job_folder import ErrorDocument, StepDocument

POLL_SECONDS = 0.5
LINE_SECONDS = 10.0
_Waited = TypeVar("_Waited", SelectionDocument, PlanJobDocument, EvaluationDocument)
_Followed = TypeVar("_Followed", JobDocument, EvaluationDocument)
_Read = Callable[[AsyncStillroomClient, str], Awaitable[_Followed]]
_MARKS = {"pending": " ", "running": "…", "succeeded": "✓", "failed": "✗"}


def follow(server: str, job_id: str, *, after: str, patience: float | None, json: bool) -> int:
    """Show a job of a server until it ends, then its outcome; in JSON a line for each event, and one for the outcome.

    Returns:
        The exit code: 0 if it succeeded, else 1.
    """
    with going_on(f"stillroom watch {job_id}", after) as place:
        job = asyncio.run(_follow(server, job_id, _compression, place, patience, json=json))
    if not json:
        return report(job, json=False)
    typer.echo(compression_line(job))
    return _ending(job)


def follow_evaluation(
    server: str, evaluation_id: str, *, after: str, patience: float | None, json: bool
) -> EvaluationDocument:
    """Show an evaluation until it ends, and give it; in JSON a line for each event."""
    with going_on(f"stillroom evaluate watch {evaluation_id}", after) as place:
        return asyncio.run(_follow(server, evaluation_id, _evaluation, place, patience, json=json))


def _compression(client: AsyncStillroomClient, job_id: str) -> Awaitable[JobDocument]:
    return client.get(job_id)


def _evaluation(client: AsyncStillroomClient, job_id: str) -> Awaitable[EvaluationDocument]:
    return client.evaluation(job_id)


async def _follow(
    server: str, job_id: str, read: _Read[_Followed], place: Place, patience: float | None, *, json: bool
) -> _Followed:
    async with AsyncStillroomClient(server) as client:
        with ProgressView() as view:
            with starting(client, patience, view.away):
                await read(client, job_id)  # an unknown job is told at once
            looking = asyncio.create_task(_look(client, job_id, read, view))
            try:
                async for event in client.stream_events(job_id, place.after):
                    if json:
                        typer.echo(f'{{"event": {event.model_dump_json()}}}')
                    view.tell(event)
                    place.after = place_of(event)
            finally:
                looking.cancel()
            job = await read(client, job_id)
            view.show(job)
            return job


async def _look(client: AsyncStillroomClient, job_id: str, read: _Read[_Followed], view: ProgressView) -> None:
    with suppress(ApiError, ServerUnreachableError):  # following the events meets them too, and tells
        while True:
            view.show(await read(client, job_id))
            await asyncio.sleep(POLL_SECONDS)


@dataclass
class Place:
    """Where in a job's events we are."""

    after: str


@contextmanager
def going_on(command: str, after: str) -> Iterator[Place]:
    """Say how to go on where following events is given up or interrupted."""
    place = Place(after)
    try:
        yield place
    except (KeyboardInterrupt, ServerUnreachableError):
        warn(f"The server's work goes on. To follow it again: {command} --after {place.after}")
        raise


def show_events(
    server: str, job_id: str, command: str, after: str, *, follow: bool, patience: float | None, json: bool
) -> None:
    """Print a job's events, an event a line: those that there are, or as they come."""
    with StillroomClient(server) as client:
        past = client.past_events(job_id, after)
        with starting(client, patience, warn):
            first = list(islice(past, 1))
        events = client.stream_events(job_id, after) if follow else chain(first, past)
        with going_on(f"{command} {job_id} --follow", after) as place:
            for event in events:
                typer.echo(event.model_dump_json() if json else event_line(event))
                place.after = place_of(event)


@contextmanager
def starting(
    client: StillroomClient | AsyncStillroomClient, patience: float | None, told: Callable[[str], None]
) -> Iterator[None]:
    """Look whether there is what shall be followed, and have more patience after it.

    In the body too, a server that is away is waited for where people said for how long; else it may never have been
    there, and that is told at once.
    """
    if patience is not None:
        client.set_patience(patience, told)
    yield
    client.set_patience(DEFAULT_PATIENCE if patience is None else patience, told)


@contextmanager
def waiting(command: str) -> Iterator[None]:
    """Say how to look again where waiting is given up or interrupted."""
    try:
        yield
    except (KeyboardInterrupt, ServerUnreachableError):
        warn(f"The server's work goes on. To look again: {command}")
        raise


def warn(text: str) -> None:
    """Tell people something beside what was asked for."""
    typer.echo(text, err=True)


def compression_line(job: JobDocument) -> str:
    """A compression's document as a line among others."""
    return f'{{"compression": {job.model_dump_json()}}}'


def event_line(event: EventEntry) -> str:
    """An event as a line."""
    return f"{event.time}  {place_of(event)}  {event.type}  {event.message}{_point(event)}"


def _point(event: EventEntry) -> str:
    """The numbers of a point of a curve."""
    data = dict(event.data)
    if event.type != "metrics" or not {"done", "total"} <= data.keys():
        return ""
    at = f"{data.pop('done'):,} of {data.pop('total'):,} {data.pop('unit', '')}".rstrip()
    numbers = [f"{key.replace('_', ' ')} {value:.4g}" for key, value in data.items() if key != "step"]
    return f" at {at}: {', '.join(numbers)}"


def show_until_end(read: Callable[[], JobDocument | None]) -> JobDocument:
    """Show what ``read`` gives until the job has ended; None while it cannot be had."""
    with ProgressView() as view:
        while True:
            job = read()
            view.show(job)
            if job is not None and job.status.is_terminal:
                return job
            time.sleep(POLL_SECONDS)


def wait_for(client: StillroomClient, read: Callable[[], _Waited], patience: float | None) -> _Waited:
    """Wait for a selection, a plan or an evaluation, telling of its steps; a server that is away is waited for."""
    console, told = Console(stderr=True), ""
    with starting(client, patience, warn):
        found = read()
    while True:
        running = [
            "; ".join(part for part in (f"{step.name} {_amount(step)}".strip(), step.note) if part)
            for step in found.steps
            if step.status == "running"
        ]
        line = f"{found.id} {found.status}{': ' + '; '.join(running) if running else ''}"
        if line != told:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
            told = line
        if found.status.is_terminal:
            return found
        time.sleep(POLL_SECONDS)
        found = read()


def wait_for_batch(client: StillroomClient, batch_id: str, patience: float | None) -> BatchDocument:
    """Wait for the end of a batch, telling of its compressions as they begin and end."""
    told = dict[str, str]()
    with starting(client, patience, warn):
        found = client.batch(batch_id)
    while True:
        for one in found.compressions:
            if told.get(one.id) != one.status:
                told[one.id] = one.status
                warn(f"{one.id} ({one.teacher}) {one.status}")
        if found.finished_at is not None or not found.compressions:
            return found
        time.sleep(POLL_SECONDS)
        found = client.batch(batch_id)


def report(job: JobDocument, *, json: bool) -> int:
    """Print a finished job's outcome and give the exit code."""
    if json:
        typer.echo(job.model_dump_json(indent=1))
    elif job.status is JobStatus.SUCCEEDED:
        print_students(job.students, job.infeasible)
    return _ending(job)


def _ending(job: JobDocument) -> int:
    tell_error(job.error)
    return 0 if job.status is JobStatus.SUCCEEDED else FAILED


def tell_error(error: ErrorDocument | None) -> None:
    """Tell why a job has failed, if it has."""
    if error is not None:
        field = f"{error.field}: " if error.field else ""
        typer.echo(f"error: {field}{error.message} {error.remedy or ''}".rstrip(), err=True)


def print_job(job: JobDocument) -> None:
    """Print where a compression stands and what it gave."""
    lines = [_headline(job), f"teacher   {teacher_of(job)}", f"created   {when(job.created_at)}"]
    if job.finished_at is not None:
        lines.append(f"finished  {when(job.finished_at)}")
    lines += [f"attempt {one.number} {one.status}{f': {one.reason}' if one.reason else ''}" for one in job.attempts]
    lines += [f"  {step.name}: {step.status} {_amount(step)}".rstrip() for step in job.steps]
    lines += [f"  {names}: {note}" for note, names in _notes(job).items()]
    typer.echo("\n".join(lines))
    print_students(job.students, job.infeasible)
    tell_error(job.error)


def print_plan(plan: PlanJobDocument) -> None:
    """Print what a compression would take, or where the estimate stands."""
    if plan.plan is None:
        typer.echo(f"{plan.id} is {plan.status}.")
        tell_error(plan.error)
        return
    for budget in plan.plan.budgets:
        counts = ", ".join(f"{name} {count}" for name, count in budget.candidates.items())
        note = f" ({budget.note})" if budget.note else ""
        typer.echo(f"budget {budget.budget}: {counts if budget.feasible else 'no candidate'}{note}")
    for step in plan.plan.steps:
        typer.echo(f"{step.name:<14} {'reused' if step.reused else f'{step.seconds:.0f} s':>8}  {step.basis}")
    typer.echo(f"in all {plan.plan.seconds:.0f} s, {plan.plan.device_hours:.3g} {plan.plan.device} hours")


class ProgressView:
    """Shows a job's steps on standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._headline = ""
        self._steps: dict[str, tuple[str, float]] = {}
        self._noted: set[str] = set()

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def away(self, reason: str) -> None:
        """Tell that the server does not answer, once until it does."""
        if self._headline != reason:
            self._headline = reason
            self._line(f"{reason} Trying again.")

    def tell(self, event: EventEntry) -> None:
        """Tell of an event; numbers are in the steps already."""
        if event.type != "metrics":
            self._line(event_line(event))

    def show(self, job: JobDocument | EvaluationDocument | None) -> None:
        """Bring the view up to date."""
        if self._live and job is not None:
            self._live.update(_table(job), refresh=True)
            return
        headline = _headline(job)
        if headline != self._headline:
            self._line(headline)
            self._headline = headline
            if job is not None and job.status is JobStatus.QUEUED:
                self._steps, self._noted = {}, set()
        for step in job.steps if job is not None and not self._live else []:
            state, printed = self._steps.get(step.name, ("pending", 0.0))
            due = step.status == "running" and time.monotonic() - printed > LINE_SECONDS
            if step.status != state or due:
                self._line(f"  {step.name}: {step.status} {_amount(step)}".rstrip())
                self._steps[step.name] = (step.status, time.monotonic())
        for note, names in _notes(job).items() if job is not None else []:
            if note not in self._noted:
                self._line(f"  {names}: {note}")
                self._noted.add(note)

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _headline(job: JobDocument | EvaluationDocument | None) -> str:
    if job is None:
        return "The server does not answer; trying again."
    attempt = f", attempt {job.attempt}" if job.attempt > 1 else ""
    reason = f": {job.reason}" if job.reason else ""
    ray = job.ray if isinstance(job, JobDocument) else None
    waiting = f" ({ray.note})" if ray is not None and not job.status.is_terminal and ray.state != "ready" else ""
    return f"{job.id} {job.status}{attempt}{reason}{waiting}"


def _notes(job: JobDocument | EvaluationDocument) -> dict[str, str]:
    """The steps' notes, each once, with the names of the steps that have it."""
    names = defaultdict[str, list[str]](list)
    for step in job.steps:
        if step.note:
            names[step.note].append(step.name)
    return {note: ", ".join(those) for note, those in names.items()}


def _table(job: JobDocument | EvaluationDocument) -> RenderableType:
    table = Table(title=Text(_headline(job)), title_justify="left", box=None, pad_edge=False)
    for column in ("", "step", "progress", "rate", "time left"):
        table.add_column(column, no_wrap=True)
    for step in job.steps:
        rate = f"{_number(step.rate)} {step.unit}/s" if step.rate is not None else ""
        table.add_row(_MARKS[step.status], Text(step.name), Text(_done(step)), Text(rate), _left(step))
    return Group(table, *(Text(f"{names}: {note}", style="dim") for note, names in _notes(job).items()))


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
    return "; ".join(part for part in (amount, reused) if part)


def _left(step: StepDocument) -> str:
    if step.seconds_left is None or step.status != "running":
        return ""
    minutes, seconds = divmod(round(step.seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
