"""The store of jobs: every change is one short transaction that checks the state it starts from."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services.jobs.records import Attempt, Job, RequestKey
from services.jobs.states import AttemptStatus, JobStatus
from services.jobs.tables import AttemptRow, JobRow, RequestKeyRow
from workloads.job_folder import JobKind, ResultDocument, StepDocument

MAX_PAGE = 200
PREFIXES: dict[JobKind, str] = {"compression": "cmp", "selection": "sel", "plan": "pln"}


class UnknownJobError(LookupError):
    """There is no job of that id."""


class TransitionError(RuntimeError):
    """The job's state does not allow the change; it has moved on since it was read.

    Attributes:
        status: The state that the job is in.
    """

    def __init__(self, job_id: str, status: JobStatus, wanted: str) -> None:
        self.status = status
        super().__init__(f"{job_id} is {status} and cannot become {wanted}.")


class KeyReusedError(ValueError):
    """A request's key was sent before, with another request."""

    def __init__(self, key: RequestKey) -> None:
        super().__init__(f"The key {key.key!r} was sent before with another request. Give each request its own.")


class JobStore:
    """Jobs and their attempts in a database.

    Args:
        engine: From :func:`services.jobs.database.open_database`, migrated.
    """

    def __init__(self, engine: Engine) -> None:
        self._readers = engine
        self._writers = engine.execution_options(write=True)

    def create(
        self,
        request: dict[str, Any],
        kind: JobKind = "compression",
        *,
        parent: str | None = None,
        scores: str | None = None,
        answer: Callable[[str], dict[str, Any]] | None = None,
        key: RequestKey | None = None,
    ) -> Job:
        """Add a queued job and give it an id.

        Args:
            request: As accepted.
            kind: What it is; the id begins with the kind's prefix.
            parent: A selection's compression, or a compression's plan.
            scores: Fingerprint of the scores table that a selection answers from.
            answer: Gives what a selection with that id can be answered at once.
            key: Of the request; where it was sent before, the job that was made then is given.

        Raises:
            KeyReusedError: The key was sent before, with another request.
            UnknownJobError: There is no such parent.
        """
        job_id = f"{PREFIXES[kind]}_{uuid.uuid4().hex[:16]}"
        at_once = answer(job_id) if answer is not None else None
        row = JobRow(
            id=job_id,
            kind=kind,
            parent=parent,
            scores=scores,
            digest=digest_of(request),
            answer=at_once,
            status=JobStatus.QUEUED,
            request=request,
            attempt=0,
            created_at=_now(),
        )
        try:
            with self._write() as session:
                if key is not None and (known := _keyed(session, key)) is not None:
                    return _job(known)
                if parent is not None:
                    _row(session, parent, lock=True)  # so that nobody deletes it meanwhile
                session.add(row)
                session.flush()
                if key is not None:
                    made = RequestKeyRow(
                        scope=key.scope, key=key.key, digest=key.digest, job_number=row.number, created_at=_now()
                    )
                    session.add(made)
                    session.flush()
                return _job(row)
        except IntegrityError:
            # Where writers do not take turns, another may have used the key since it was looked for.
            earlier = self.find_keyed(key) if key is not None else None
            if earlier is None:
                raise
            return earlier

    def find_keyed(self, key: RequestKey) -> Job | None:
        """The job that was made by a request with this key.

        Raises:
            KeyReusedError: It was made by another request.
        """
        with Session(self._readers) as session:
            row = _keyed(session, key)
            return None if row is None else _job(row)

    def latest_plan(self, request: dict[str, Any]) -> Job | None:
        """The newest finished plan of exactly this request."""
        query = (
            select(JobRow)
            .where(JobRow.digest == digest_of(request), JobRow.kind == "plan", JobRow.status == JobStatus.SUCCEEDED)
            .order_by(JobRow.number.desc())
            .limit(1)
        )
        with Session(self._readers) as session:
            row = session.scalar(query)
            return None if row is None else _job(row)

    def get(self, job_id: str, kind: JobKind | None = None) -> Job:
        """Read a job, of one kind where that is given.

        Raises:
            UnknownJobError: There is none of that id.
        """
        with Session(self._readers) as session:
            row = _row(session, job_id)
            if kind is not None and row.kind != kind:
                raise UnknownJobError(job_id)
            return _job(row)

    def page(
        self,
        *,
        kind: JobKind = "compression",
        status: JobStatus | None = None,
        parent: str | None = None,
        teacher: str | None = None,
        labels: Mapping[str, str] | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> list[Job]:
        """Read up to ``limit`` jobs of a kind, newest first, older than the job ``after``.

        Args:
            kind: Which kind.
            status: Those in this state.
            parent: Those of this job.
            teacher: Those of this teacher, as the request names it.
            labels: Those that have all of these labels.
            limit: At most so many, and at most :data:`MAX_PAGE`.
            after: Those older than this job.

        Raises:
            UnknownJobError: There is no job ``after``.
        """
        query = select(JobRow).where(JobRow.kind == kind).order_by(JobRow.number.desc()).limit(min(limit, MAX_PAGE))
        if parent is not None:
            query = query.where(JobRow.parent == parent)
        if status is not None:
            query = query.where(JobRow.status == status)
        if teacher is not None:
            query = query.where(JobRow.request[("teacher", "model")].as_string() == teacher)
        for name, value in (labels or {}).items():
            query = query.where(JobRow.request[("labels", name)].as_string() == value)
        with Session(self._readers) as session:
            if after is not None:
                query = query.where(JobRow.number < _row(session, after).number)
            return [_job(row) for row in session.scalars(query)]

    def selections(self, compression_id: str) -> Iterator[Job]:
        """Read all selections of a compression, newest first, a page at a time."""
        after = None
        while found := self.page(kind="selection", parent=compression_id, limit=MAX_PAGE, after=after):
            yield from found
            after = found[-1].id

    def unfinished(self) -> list[Job]:
        """Read all jobs that something is still to be done for, oldest first."""
        states = [status for status in JobStatus if not status.is_terminal]
        query = select(JobRow).where(JobRow.status.in_(states)).order_by(JobRow.number)
        with Session(self._readers) as session:
            return [_job(row) for row in session.scalars(query)]

    def counts(self) -> tuple[dict[tuple[JobKind, JobStatus], int], dict[AttemptStatus, int]]:
        """How many jobs there are of each kind in each state, and how many attempts stand how."""
        jobs = select(JobRow.kind, JobRow.status, func.count()).group_by(JobRow.kind, JobRow.status)
        attempts = select(AttemptRow.status, func.count()).group_by(AttemptRow.status)
        with Session(self._readers) as session:
            return (
                {(kind, JobStatus(status)): count for kind, status, count in session.execute(jobs)},
                {AttemptStatus(status): count for status, count in session.execute(attempts)},
            )

    def begin_attempt(self, job_id: str) -> Job:
        """Move a queued job to its next attempt, which is ``starting`` until it is submitted."""
        with self._write() as session:
            row = _row(session, job_id, lock=True)
            _move(row, JobStatus.RUNNING)
            now = _now()
            row.attempt += 1
            row.reason, row.not_before = None, None
            row.started_at = row.started_at or now
            row.attempts.append(
                AttemptRow(
                    number=row.attempt,
                    status=AttemptStatus.STARTING,
                    submission_id=f"{row.id}-{row.attempt}",
                    started_at=now,
                )
            )
            session.flush()
            return _job(row)

    def mark_submitted(self, job_id: str, attempt: int) -> Job:
        """Note that the attempt has reached Ray; a job that is being cancelled by now may have one too."""
        with self._write() as session:
            row = _row(session, job_id, lock=True)
            current = row.attempts[-1]
            if current.number == attempt and current.status == AttemptStatus.STARTING:
                current.status = AttemptStatus.RUNNING
            return _job(row)

    def end_attempt(
        self,
        job_id: str,
        attempt: int,
        status: AttemptStatus,
        reason: str | None,
        then: JobStatus,
        *,
        not_before: datetime | None = None,
        result: ResultDocument | None = None,
        steps: Sequence[StepDocument] | None = None,
    ) -> Job:
        """End the current attempt and move its job on.

        Args:
            job_id: The job.
            attempt: Its number.
            status: How the attempt ended.
            reason: Why, where that needs saying.
            then: The job's next state: the queue for another attempt, or a terminal one.
            not_before: The next attempt waits until then.
            result: The job's result, where ``then`` is terminal.
            steps: The attempt's last steps, where ``then`` is terminal.

        Raises:
            TransitionError: Another attempt is current, or the job's state forbids it.
        """
        assert status.is_terminal
        with self._write() as session:
            row = _row(session, job_id, lock=True)
            current = row.attempts[-1] if row.attempts else None
            if current is None or current.number != attempt or AttemptStatus(current.status).is_terminal:
                raise TransitionError(job_id, JobStatus(row.status), f"{then} by attempt {attempt}")
            _move(row, then)
            now = _now()
            current.status, current.reason, current.finished_at = status, reason, now
            row.reason, row.not_before = reason, not_before
            if then.is_terminal:
                row.finished_at = now
                row.result = result.model_dump(mode="json") if result else None
                row.steps = [step.model_dump(mode="json") for step in steps] if steps is not None else None
            session.flush()
            return _job(row)

    def request_cancel(self, job_id: str) -> Job:
        """Ask for a job's end: a queued one is cancelled at once, a running one by the controller.

        Asking again changes nothing.

        Raises:
            TransitionError: It has succeeded or failed already.
        """
        with self._write() as session:
            row = _row(session, job_id, lock=True)
            status = JobStatus(row.status)
            if status in {JobStatus.CANCELLING, JobStatus.CANCELLED}:
                return _job(row)
            if status is JobStatus.QUEUED:
                _move(row, JobStatus.CANCELLED)
                row.finished_at = _now()
            else:
                _move(row, JobStatus.CANCELLING)
            row.reason = "It was cancelled by request."
            session.flush()
            return _job(row)

    def resume(self, job_id: str) -> Job:
        """Send a failed or cancelled job back to the queue, where it may fail as often as a new one.

        Raises:
            TransitionError: It has not ended, or has succeeded.
        """
        with self._write() as session:
            row = _row(session, job_id, lock=True)
            if not JobStatus(row.status).may_be_resumed:
                raise TransitionError(job_id, JobStatus(row.status), "queued again")
            row.status = JobStatus.QUEUED
            row.reason, row.not_before, row.finished_at = "It was resumed by request.", None, None
            row.result, row.steps = None, None
            row.resumed_after = row.attempt
            session.flush()
            return _job(row)

    def delete(self, job_id: str, clear: Callable[[str], None]) -> None:
        """Forget an ended job, and all jobs made from it.

        Args:
            job_id: The job.
            clear: Removes what is kept of a job elsewhere, by its id; where it fails, no job is forgotten.

        Raises:
            TransitionError: It, or a job made from it, has not ended.
        """
        with self._write() as session:
            row = _row(session, job_id, lock=True)
            made = select(JobRow).where(JobRow.parent == job_id, JobRow.kind == "selection").with_for_update()
            rows = [row, *session.scalars(made)]
            for one in rows:
                if not JobStatus(one.status).is_terminal:
                    raise TransitionError(one.id, JobStatus(one.status), "deleted")
                session.delete(one)
            session.flush()
            # Inside the transaction, so that nobody resumes a job whose folder is going.
            for one in rows:
                clear(one.id)

    @contextmanager
    def _write(self) -> Iterator[Session]:
        with Session(self._writers) as session, session.begin():
            yield session


def _row(session: Session, job_id: str, *, lock: bool = False) -> JobRow:
    query = select(JobRow).where(JobRow.id == job_id)
    # SQLite leaves the lock out; its writers take turns as a whole.
    row = session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise UnknownJobError(job_id)
    return row


def _keyed(session: Session, key: RequestKey) -> JobRow | None:
    found = session.get(RequestKeyRow, (key.scope, key.key))
    if found is None:
        return None
    if found.digest != key.digest:
        raise KeyReusedError(key)
    return session.get(JobRow, found.job_number)


def _move(row: JobRow, target: JobStatus) -> None:
    status = JobStatus(row.status)
    if not status.may_become(target):
        raise TransitionError(row.id, status, target)
    row.status = target


def digest_of(request: dict[str, Any]) -> str:
    """A digest that equal requests share."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def _now() -> datetime:
    return datetime.now(UTC)


def _job(row: JobRow) -> Job:
    return Job(
        id=row.id,
        kind=row.kind,
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
        result=None if row.result is None else ResultDocument.model_validate(row.result),
        steps=None if row.steps is None else tuple(StepDocument.model_validate(step) for step in row.steps),
        attempts=tuple(_attempt(attempt) for attempt in row.attempts),
    )


def _attempt(row: AttemptRow) -> Attempt:
    return Attempt(
        number=row.number,
        status=AttemptStatus(row.status),
        reason=row.reason,
        submission_id=row.submission_id,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
