"""Live view of a job's steps: a table on a terminal, else a line per change."""

from __future__ import annotations

import time
from collections import defaultdict
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from services.cli.numbers import amount, clean, duration

if TYPE_CHECKING:
    from services.cli.kinds import Steps
    from services.jobs.documents import EventEntry
    from workloads.documents.job_folder import StepDocument

LINE_SECONDS = 10.0
SILENCE_SECONDS = 15.0
"""Silence after which a step is shown with the age of its last report."""
_MARKS = {"pending": " ", "running": "…", "succeeded": "✓", "failed": "✗"}


class ProgressView:
    """View of a job's steps on standard error."""

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
        """Report that the server does not answer, once until it does."""
        if self._headline != reason:
            self._headline = reason
            self._line(f"{reason} Trying again.")

    def tell(self, event: EventEntry) -> None:
        """Print an event; numbers are shown by the steps."""
        if event.type != "metrics":
            self._line(event_line(event))

    def show(self, job: Steps) -> None:
        """Update the view."""
        if self._live:
            self._live.update(_table(job), refresh=True)
            return
        line = headline(job)
        if line != self._headline:
            self._line(line)
            self._headline = line
            if job.status == "queued":
                self._steps, self._noted = {}, set()
        for step in job.steps:
            state, printed = self._steps.get(step.name, ("pending", 0.0))
            due = step.status == "running" and time.monotonic() - printed > LINE_SECONDS
            if step.status != state or due:
                self._line(f"  {step_line(step)}")
                self._steps[step.name] = (step.status, time.monotonic())
        for note, names in notes(job).items():
            if note not in self._noted:
                self._line(f"  {names}: {note}")
                self._noted.add(note)

    def _line(self, text: str) -> None:
        self._console.print(clean(text), markup=False, highlight=False, soft_wrap=True)


def headline(job: Steps) -> str:
    """Describe the state of a job in a sentence."""
    number = getattr(job, "attempt", 0)
    attempt = f", attempt {number}" if number > 1 else ""
    reason = f": {job.reason}" if job.reason else ""
    ray = getattr(job, "ray", None)
    waiting = f" ({ray.note})" if ray is not None and not job.status.is_terminal and ray.state != "ready" else ""
    return f"{job.id} {job.status}{attempt}{reason}{waiting}"


def notes(job: Steps) -> dict[str, str]:
    """List the steps' notes, each once, with the names of its steps."""
    names = defaultdict[str, list[str]](list)
    for step in job.steps:
        if step.note:
            names[step.note].append(step.name)
    return {note: ", ".join(those) for note, those in names.items()}


def step_line(step: StepDocument) -> str:
    """Describe a step: its progress, its rate, and the age of its last report."""
    rate = f"{amount(step.rate)} {step.unit}/s" if step.rate is not None else ""
    left = f"{_left(step)} left" if _left(step) else ""
    parts = ", ".join(part for part in (_done(step), rate, left, _silence(step)) if part)
    return f"{step.name}: {step.status} {parts}".rstrip()


def event_line(event: EventEntry) -> str:
    """Format an event as a line."""
    return clean(f"{event.time}  {event.attempt}-{event.sequence}  {event.type}  {event.message}{_point(event)}")


def _point(event: EventEntry) -> str:
    """Format the numbers of a point of a curve."""
    data = {key: value for key, value in event.data.items() if isinstance(value, int | float | str)}
    if event.type != "metrics" or not {"done", "total"} <= data.keys():
        return ""
    done, total, unit = data.pop("done"), data.pop("total"), data.pop("unit", "")
    at = " of ".join(f"{one:,}" if isinstance(one, int) else str(one) for one in (done, total))
    numbers = [f"{key.replace('_', ' ')} {value:.4g}" for key, value in data.items() if isinstance(value, int | float)]
    return f" at {at} {unit}".rstrip() + f": {', '.join(numbers)}"


def _table(job: Steps) -> RenderableType:
    table = Table(title=Text(clean(headline(job))), title_justify="left", box=None, pad_edge=False)
    silent = any(_silence(step) for step in job.steps)
    for column in ("", "step", "progress", "rate", "time left", *(["last sign"] if silent else [])):
        table.add_column(column, no_wrap=True)
    for step in job.steps:
        rate = f"{amount(step.rate)} {step.unit}/s" if step.rate is not None else ""
        cells = [step.name, _done(step), rate, _left(step), *([_silence(step)] if silent else [])]
        table.add_row(_MARKS[step.status], *(Text(clean(cell)) for cell in cells))
    return Group(table, *(Text(clean(f"{names}: {note}"), style="dim") for note, names in notes(job).items()))


def _done(step: StepDocument) -> str:
    done = ""
    if step.total is not None or step.done:
        total = f"/{step.total:,}" if step.total is not None else ""
        done = f"{step.done:,}{total} {step.unit}".rstrip()
    return "; ".join(part for part in (done, "reused" if step.reused else "") if part)


def _left(step: StepDocument) -> str:
    return duration(step.seconds_left) if step.seconds_left is not None and step.status == "running" else ""


def _silence(step: StepDocument) -> str:
    silent = step.silent_seconds
    if silent is None or silent < SILENCE_SECONDS or step.status != "running":
        return ""
    return f"no sign for {duration(silent)}"
