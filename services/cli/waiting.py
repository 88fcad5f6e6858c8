"""Waits for a server and its jobs, with retries, and with a hint on how to continue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import typer

from services.cli.numbers import clean
from services.cli.options import DEFAULT_PATIENCE

if TYPE_CHECKING:
    from services.api.batch_schemas import BatchDocument
    from services.client import AsyncStillroomClient, StillroomClient
    from services.jobs.documents import EvaluationDocument, PlanJobDocument, SelectionDocument

    Waited = TypeVar("Waited", SelectionDocument, PlanJobDocument, EvaluationDocument)

LOOK_SECONDS, MAX_LOOK_SECONDS = 0.5, 4.0
"""Poll interval: short at first, then a tenth of the time since the last change, up to the maximum."""


class Looks:
    """Poll intervals that grow with the wait, so that a long wait costs little.

    Args:
        clock: A monotonic clock in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()

    @property
    def pause(self) -> float:
        """Seconds until the next poll."""
        return min(MAX_LOOK_SECONDS, max(LOOK_SECONDS, (self._clock() - self._began) / 10))


@contextmanager
def starting(
    client: StillroomClient | AsyncStillroomClient, patience: float | None, on_retry: Callable[[str], None]
) -> Iterator[None]:
    """Run the body, which checks that the job to follow exists; after it, retry for longer.

    In the body, an unreachable server is retried only for as long as the user has set: it may never have been there,
    which is reported at once.
    """
    if patience is not None:
        client.set_patience(patience, on_retry)
    yield
    client.set_patience(DEFAULT_PATIENCE if patience is None else patience, on_retry)


@contextmanager
def waiting(command: str) -> Iterator[None]:
    """Print how to continue if waiting fails or is interrupted."""
    from services.client import ServerUnreachableError

    try:
        yield
    except (KeyboardInterrupt, ServerUnreachableError):
        warn(f"The server's work goes on. To look again: {command}")
        raise


def wait_for(client: StillroomClient, read: Callable[[], Waited], patience: float | None) -> Waited:
    """Wait for a selection, a plan or an evaluation and show its steps; an unreachable server is retried."""
    from services.cli.progress_view import step_line

    told, looks = "", Looks()
    with starting(client, patience, warn):
        found = read()
    while True:
        running = [
            f"{step_line(step)}; {step.note}" if step.note else step_line(step)
            for step in found.steps
            if step.status == "running"
        ]
        line = f"{found.id} {found.status}{': ' + '; '.join(running) if running else ''}"
        if line != told:
            warn(line)
            told = line
        if found.status.is_terminal:
            return found
        time.sleep(looks.pause)
        found = read()


def wait_for_batch(client: StillroomClient, batch_id: str, patience: float | None) -> BatchDocument:
    """Wait for the end of a batch, and report its compressions as they begin and end."""
    told, looks = dict[str, str](), Looks()
    with starting(client, patience, warn):
        found = client.batch(batch_id)
    while True:
        for one in found.compressions:
            if told.get(one.id) != one.status:
                told[one.id] = one.status
                warn(f"{one.id} ({one.teacher}) {one.status}")
        if found.finished_at is not None or not found.compressions:
            return found
        time.sleep(looks.pause)
        found = client.batch(batch_id)


def warn(text: str) -> None:
    """Print a message on standard error, beside the results."""
    typer.echo(clean(text), err=True)
