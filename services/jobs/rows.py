"""Rows of the database: look-up, locks, changes of state, conversion into records; all stores use this."""

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
        kind: The requested kind, or the kind that the id's prefix names.
    """

    def __init__(self, job_id: str, kind: JobKind | None = None) -> None:
        super().__init__(job_id)
        kinds: dict[str, str] = {prefix: one for one, prefix in PREFIXES.items()}
        self.kind = kind or kinds.get(job_id.partition("_")[0], "job")


class TransitionError(RuntimeError):
    """The job's state does not allow the change.

    Attributes:
        status: The job's state.
    """

    def __init__(self, job_id: str, status: StrEnum, wanted: str) -> None:
        self.status = status
        super().__init__(f"{job_id} is {status} and cannot become {wanted}.")


class StoppingError(RuntimeError):
    """The service is stopping and accepts no changes."""

    def __init__(self) -> None:
        super().__init__("The service is stopping. Ask again when it, or another one, has started.")


class Gate:
    """Gate that admits requests' changes until the service stops."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open = True
        self._inside = 0

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Make a change inside the gate; closing the gate waits for it.

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
        """Admit no more changes, and wait for unfinished ones; returns whether all have ended in that time."""
        with self._changed:
            self._open = False
            return self._changed.wait_for(lambda: self._inside == 0, seconds)


class Sessions:
    """Source of a database's sessions.

    Args:
        engine: From :func:`services.jobs.database.open_database`, migrated.
        gate: Refuses changes when it is closed; by default none are refused.
    """

    def __init__(self, engine: Engine, gate: Gate | None = None) -> None:
        self._readers = engine
        self._writers = engine.execution_options(write=True)
        self._gate = gate or Gate()

    def reading(self) -> Session:
        """Open a session that only reads."""
        return Session(self._readers)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Open a session with one short writing transaction."""
        with self._gate.passing(), Session(self._writers) as session, session.begin():
            yield session


def find_row(
    session: Session, job_id: str, kind: JobKind | None = None, *, tenant: str | None = None, lock: bool = False
) -> JobRow:
    """Read a job's row.

    Args:
        session: The session.
        job_id: The job.
        kind: Kind that the job must have; None for any.
        tenant: Owner that the job must have; None for any.
        lock: Whether to lock the row until the transaction ends.

    Raises:
        UnknownJobError: There is no such job.
    """
    query = select(JobRow).where(JobRow.id == job_id)
    if kind is not None:
        query = query.where(JobRow.kind == kind)
    if tenant is not None:
        query = query.where(JobRow.tenant == tenant)
    # SQLite ignores the lock; its writing transactions run one at a time.
    row = session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise UnknownJobError(job_id, kind)
    return row


def move(row: JobRow, target: JobStatus) -> None:
    """Move a job to another state.

    Raises:
        TransitionError: The job's state does not allow it.
    """
    status = JobStatus(row.status)
    if not status.may_become(target):
        raise TransitionError(row.id, status, target)
    row.status = target


def ask_for_end(row: JobRow) -> None:
    """Cancel a queued job at once; the controller cancels a running one. Repeating it changes nothing.

    Raises:
        TransitionError: The job has succeeded or failed.
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
    """Queue a failed or cancelled job again; its failures count from 0.

    Raises:
        TransitionError: The job has not ended, or has succeeded.
    """
    if not JobStatus(row.status).may_be_resumed:
        raise TransitionError(row.id, JobStatus(row.status), "queued again")
    row.status = JobStatus.QUEUED
    row.reason, row.not_before, row.finished_at = "It was resumed by request.", None, None
    row.result, row.steps = None, None
    row.resumed_after = row.attempt


def now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


def job_of(row: JobRow) -> Job:
    """Convert a row into a record."""
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
    """Read a job's result; an unreadable one of another version becomes an error that keeps its artefacts."""
    assert row.result is not None
    try:
        return ResultDocument.model_validate(row.result)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        message = (
            f"The job has {row.status}, but another version of stillroom wrote its result: {place} cannot be read."
        )
        remedy = "Read it with that version, or submit the request again; its artefacts are reused."
        artifacts = row.result.get("artifacts")
        return ResultDocument(
            status="failed",
            error=ErrorDocument(code="internal", message=message, remedy=remedy),
            artifacts=artifacts if isinstance(artifacts, dict) else {},
        )


def _steps(given: list[dict[str, Any]]) -> tuple[StepDocument, ...]:
    try:
        return tuple(StepDocument.model_validate(step) for step in given)
    except ValidationError:  # written by another version
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
