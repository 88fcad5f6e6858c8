"""Rows of the database: found and locked, moved on, and read as records; all stores share this."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from services.jobs.records import Attempt, Job
from services.jobs.states import AttemptStatus, JobStatus
from services.jobs.tables import AttemptRow, JobRow
from workloads.documents.job_folder import ErrorDocument, JobKind, ResultDocument, StepDocument

PREFIXES: dict[JobKind, str] = {"compression": "cmp", "selection": "sel", "plan": "pln", "evaluation": "evl"}


class UnknownJobError(LookupError):
    """No job has that id.

    Attributes:
        kind: What it was asked for as, or what its id says that it was.
    """

    def __init__(self, job_id: str, kind: JobKind | None = None) -> None:
        super().__init__(job_id)
        kinds: dict[str, str] = {prefix: one for one, prefix in PREFIXES.items()}
        self.kind = kind or kinds.get(job_id.partition("_")[0], "job")


class TransitionError(RuntimeError):
    """The job's state does not allow the change; it has moved on since it was read.

    Attributes:
        status: The state that the job is in.
    """

    def __init__(self, job_id: str, status: StrEnum, wanted: str) -> None:
        self.status = status
        super().__init__(f"{job_id} is {status} and cannot become {wanted}.")


class StoppingError(RuntimeError):
    """The service is stopping and takes nothing new."""

    def __init__(self) -> None:
        super().__init__("The service is stopping. Ask again when it, or another, serves.")


class Gate:
    """Admits changes of requests until the service stops."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open = True
        self._inside = 0

    @contextmanager
    def passing(self) -> Iterator[None]:
        """A change; the gate is not closed in the middle of one.

        Raises:
            StoppingError: The gate is closed.
        """
        with self._changed:
            if not self._open:
                raise StoppingError
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def close(self, seconds: float) -> bool:
        """Admit no more changes and wait for those under way; returns whether all have ended in that time."""
        with self._changed:
            self._open = False
            return self._changed.wait_for(lambda: self._inside == 0, seconds)


class Sessions:
    """Opens a database's sessions.

    Args:
        engine: From :func:`services.jobs.database.open_database`, migrated.
        gate: That changes pass; left out, nothing stops them.
    """

    def __init__(self, engine: Engine, gate: Gate | None = None) -> None:
        self._readers = engine
        self._writers = engine.execution_options(write=True)
        self._gate = gate or Gate()

    def reading(self) -> Session:
        """A session that only reads."""
        return Session(self._readers)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """One short transaction."""
        with self._gate.passing(), Session(self._writers) as session, session.begin():
            yield session


def find_row(
    session: Session, job_id: str, kind: JobKind | None = None, *, tenant: str | None = None, lock: bool = False
) -> JobRow:
    """Read a job's row.

    Args:
        session: Where.
        job_id: The job.
        kind: What it must be; None is anything.
        tenant: Whose it must be; None is anyone's.
        lock: Nobody else may change it until the transaction ends.

    Raises:
        UnknownJobError: There is none.
    """
    query = select(JobRow).where(JobRow.id == job_id)
    if kind is not None:
        query = query.where(JobRow.kind == kind)
    if tenant is not None:
        query = query.where(JobRow.tenant == tenant)
    # SQLite leaves the lock out; its writers take turns as a whole.
    row = session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise UnknownJobError(job_id, kind)
    return row


def move(row: JobRow, target: JobStatus) -> None:
    """Move a job to a next state.

    Raises:
        TransitionError: It may not.
    """
    status = JobStatus(row.status)
    if not status.may_become(target):
        raise TransitionError(row.id, status, target)
    row.status = target


def ask_for_end(row: JobRow) -> None:
    """Cancel a queued job at once, and have the controller cancel a running one; asking again changes nothing.

    Raises:
        TransitionError: It has succeeded or failed already.
    """
    status = JobStatus(row.status)
    if status in {JobStatus.CANCELLING, JobStatus.CANCELLED}:
        return
    if status is JobStatus.QUEUED:
        move(row, JobStatus.CANCELLED)
        row.finished_at = now()
    else:
        move(row, JobStatus.CANCELLING)
    row.reason = "It was cancelled by request."


def send_back(row: JobRow) -> None:
    """Send a failed or cancelled job back to the queue; its failures count from 0 again.

    Raises:
        TransitionError: It has not ended, or has succeeded.
    """
    if not JobStatus(row.status).may_be_resumed:
        raise TransitionError(row.id, JobStatus(row.status), "queued again")
    row.status = JobStatus.QUEUED
    row.reason, row.not_before, row.finished_at = "It was resumed by request.", None, None
    row.result, row.steps = None, None
    row.resumed_after = row.attempt


def now() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)


def job_of(row: JobRow) -> Job:
    """Read a row as a record."""
    return Job(
        number=row.number,
        id=row.id,
        kind=row.kind,
        tenant=row.tenant,
        batch=row.batch,
        parent=row.parent,
        scores=row.scores,
        answer=row.answer,
        status=JobStatus(row.status),
        reason=row.reason,
        request=row.request,
        attempt=row.attempt,
        resumed_after=row.resumed_after,
        not_before=row.not_before,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        result=None if row.result is None else _result(row),
        steps=None if row.steps is None else _steps(row.steps),
        attempts=tuple(_attempt(attempt) for attempt in row.attempts),
    )


def _result(row: JobRow) -> ResultDocument:
    """The result of a job; one of a version that this one cannot read is shown as that, and keeps its artefacts."""
    assert row.result is not None
    try:
        return ResultDocument.model_validate(row.result)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        message = (
            f"The job has {row.status}, and another version of stillroom wrote its result: {place} cannot be read."
        )
        remedy = "Read it with that version, or submit the request again; what is there of its artefacts is used."
        artifacts = row.result.get("artifacts")
        return ResultDocument(
            status="failed",
            error=ErrorDocument(code="internal", message=message, remedy=remedy),
            artifacts=artifacts if isinstance(artifacts, dict) else {},
        )


def _steps(given: list[dict[str, Any]]) -> tuple[StepDocument, ...]:
    try:
        return tuple(StepDocument.model_validate(step) for step in given)
    except ValidationError:  # of another version
        return ()


def _attempt(row: AttemptRow) -> Attempt:
    return Attempt(
        number=row.number,
        status=AttemptStatus(row.status),
        reason=row.reason,
        submission_id=row.submission_id,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
