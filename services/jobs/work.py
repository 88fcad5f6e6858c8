"""The store of jobs as a controller uses it: claims on jobs, their attempts, and which job begins next.

Several services may share one database. A service works on a job only while it holds a *claim* on it: its own name as
owner, a token made for this claim, and the time when the claim runs out unless it is renewed. Work is done outside
of transactions. Its result is written only if the token is still the job's, so that a service that was blocked for
longer than its claim lasts overwrites nothing.
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Engine, and_, func, or_, select, text, update
from sqlalchemy.orm import Session

from services.jobs import summaries
from services.jobs.records import Job
from services.jobs.rows import Sessions, TransitionError, find_row, job_of, move, now
from services.jobs.states import AttemptStatus, JobStatus
from services.jobs.tables import AttemptRow, BatchRow, JobRow, TenantRow
from workloads.documents.job_folder import ResultDocument, StepDocument

CLAIM_SECONDS = 30.0
_RUNS = (JobStatus.RUNNING, JobStatus.CANCELLING)
_LONG_AGO = datetime.min
# Since the job was made, or since a person resumed it.
_HAS_BEGUN = JobRow.attempt > JobRow.resumed_after
PLACE_KEPT_SECONDS = 60.0
"""A job whose next attempt begins within this keeps its place among the running; other jobs may fill a longer wait."""
# Key of an advisory lock; any number that nothing else in the database uses.
_SCHEDULING_LOCK = 7455187121


class ClaimLostError(TransitionError):
    """Another service has taken over the job."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of jobs that run at the same time.

    Attributes:
        running: Limit of all jobs.
        of_tenant: Limit of each tenant without a limit of its own; None is no limit.
    """

    running: int
    of_tenant: int | None = None


class WorkStore:
    """The jobs that one service works on.

    Args:
        engine: From :func:`services.jobs.database.open_database`, migrated.
        owner: Unique name of the service; generated where it is left out.
        claim_seconds: Time after which a claim runs out unless it is renewed.
        clock: Returns the time in UTC.
    """

    def __init__(
        self,
        engine: Engine,
        owner: str | None = None,
        claim_seconds: float = CLAIM_SECONDS,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._now = clock
        self.owner = owner or f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.claim_seconds = claim_seconds
        self._sessions = Sessions(engine)
        self._postgres = engine.dialect.name == "postgresql"
        self._tokens: dict[str, str] = {}
        self._lock = threading.Lock()

    def runs(self, only: str | None = None) -> list[Job]:
        """Jobs with a run that this service has a claim on, or no service has, oldest first.

        Args:
            only: This job alone.
        """
        free = or_(JobRow.owner.is_(None), JobRow.owner == self.owner, JobRow.claimed_until < self._now())
        query = select(JobRow).where(JobRow.status.in_(_RUNS), free).order_by(JobRow.number)
        if only is not None:
            query = query.where(JobRow.id == only)
        with self._sessions.reading() as session:
            return [job_of(row) for row in session.scalars(query)]

    def claim(self, job_id: str) -> Job | None:
        """Claim a job that no service has a claim on, or keep this service's claim.

        Returns:
            The job as it is now; None where another service has it, or where it has no run any more.
        """
        with self._sessions.reading() as session:  # a claim that is held already, the usual case, locks nothing
            row = find_row(session, job_id)
            if row.status not in _RUNS:
                return None
            if self._holds(row):
                return job_of(row)
        with self._sessions.writing() as session:
            row = find_row(session, job_id, lock=True)
            if row.status not in _RUNS:
                return None
            if row.claimed_until is not None and row.owner != self.owner and row.claimed_until > self._now():
                return None
            self._take(row)
            return job_of(row)

    def renew(self) -> None:
        """Renew all claims of this service."""
        with self._sessions.writing() as session:
            mine = update(JobRow).where(JobRow.owner == self.owner)
            session.execute(mine.values(claimed_until=self._now() + timedelta(seconds=self.claim_seconds)))

    def release(self) -> None:
        """Release all claims of this service, so that others need not wait until they run out."""
        with self._sessions.writing() as session:
            mine = update(JobRow).where(JobRow.owner == self.owner)
            session.execute(mine.values(owner=None, token=None, claimed_until=None))
        self._tokens.clear()

    def start_next(self, limits: Limits, only: str | None = None) -> Job | None:
        """Begin an attempt of the queued job whose turn it is.

        Jobs that have begun go before those that have not. Of the others it is the turn of the tenant with the
        fewest jobs running; of several, of the one whose latest attempt began first; of its jobs, of the oldest that
        its batch and its back-off let begin.

        Args:
            limits: How many may run.
            only: This job alone.

        Returns:
            The job, running; None where none may begin.
        """
        with self._sessions.reading() as session:  # most polls find nothing, and lock nothing
            if _next(session, limits, self._now(), only) is None:
                return None
        with self._sessions.writing() as session:
            if self._postgres:  # services take turns, so that no two of them fill the same place
                session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _SCHEDULING_LOCK})
            while (number := _next(session, limits, self._now(), only)) is not None:
                queued = select(JobRow).where(JobRow.number == number, JobRow.status == JobStatus.QUEUED)
                row = session.scalar(queued.with_for_update())
                if row is not None:  # else the job was cancelled in between
                    return self._begin(session, row)
            return None

    def begin_attempt(self, job_id: str) -> Job:
        """Move a queued job to its next attempt, which is ``starting`` until it is submitted.

        Raises:
            TransitionError: It is not queued.
        """
        with self._sessions.writing() as session:
            return self._begin(session, find_row(session, job_id, lock=True))

    def mark_submitted(self, job_id: str, attempt: int) -> Job:
        """Record that the attempt has reached Ray; the job may be in cancellation by now.

        Raises:
            ClaimLostError: Another service looks after it.
        """
        with self._sessions.writing() as session:
            row = self._mine(session, job_id)
            current = row.attempts[-1]
            if current.number == attempt and current.status == AttemptStatus.STARTING:
                current.status = AttemptStatus.RUNNING
            return job_of(row)

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
        stored_bytes: int | None = None,
    ) -> Job:
        """End the current attempt, move its job on and give up the claim on it.

        Args:
            job_id: The job.
            attempt: Its number.
            status: How the attempt ended.
            reason: Why, where that needs saying.
            then: The job's next state: the queue for another attempt, or a terminal one.
            not_before: The next attempt waits until then.
            result: The job's result, where ``then`` is terminal.
            steps: The attempt's last steps, where ``then`` is terminal.
            stored_bytes: What all of the job's attempts have put into the storage, where it is known.

        Raises:
            ClaimLostError: Another service looks after it.
            TransitionError: Another attempt is current, or the job's state forbids it.
        """
        assert status.is_terminal
        with self._sessions.writing() as session:
            row = find_row(session, job_id, lock=True)
            current = row.attempts[-1] if row.attempts else None
            if current is None or current.number != attempt or AttemptStatus(current.status).is_terminal:
                raise TransitionError(job_id, JobStatus(row.status), f"{then} by attempt {attempt}")
            self._require_claim(row)
            token = row.token
            move(row, then)
            current.status, current.reason, current.finished_at = status, reason, self._now()
            row.reason, row.not_before = reason, not_before
            if stored_bytes is not None:
                # An attempt that ended early has not counted all artefacts of earlier ones.
                row.stored_bytes = max(row.stored_bytes, stored_bytes)
            row.owner, row.token, row.claimed_until = None, None, None
            if then.is_terminal:
                row.finished_at = current.finished_at
                row.result = result.model_dump(mode="json") if result else None
                row.summary = summaries.with_students(row.summary, row.result["students"] if row.result else [])
                row.steps = [step.model_dump(mode="json") for step in steps] if steps is not None else None
            session.flush()
            ended = job_of(row)
        with self._lock:  # another thread may have begun the job's next attempt by now, with a token of its own
            if self._tokens.get(job_id) == token:
                del self._tokens[job_id]
        return ended

    def _begin(self, session: Session, row: JobRow) -> Job:
        move(row, JobStatus.RUNNING)
        begun = self._now()
        row.attempt += 1
        row.reason, row.not_before = None, None
        row.started_at, row.begun_at = row.started_at or begun, begun
        row.attempts.append(
            AttemptRow(
                number=row.attempt,
                status=AttemptStatus.STARTING,
                submission_id=f"{row.id}-{row.attempt}",
                started_at=begun,
            )
        )
        self._take(row)
        session.flush()
        return job_of(row)

    def _take(self, row: JobRow) -> None:
        row.owner, row.token = self.owner, uuid.uuid4().hex
        with self._lock:
            self._tokens[row.id] = row.token
        row.claimed_until = self._now() + timedelta(seconds=self.claim_seconds)

    def _mine(self, session: Session, job_id: str) -> JobRow:
        row = find_row(session, job_id, lock=True)
        self._require_claim(row)
        return row

    def _holds(self, row: JobRow) -> bool:
        return row.token is not None and row.token == self._tokens.get(row.id)

    def _require_claim(self, row: JobRow) -> None:
        if not self._holds(row):
            raise ClaimLostError(row.id, JobStatus(row.status), f"anything by {self.owner}, which has no claim on it")


def _next(session: Session, limits: Limits, time: datetime, only: str | None) -> int | None:
    """The number of the queued job whose turn it is."""
    of_tenant, of_batch = _places(session, time)
    if sum(of_tenant.values()) >= limits.running:
        return None
    waited: ColumnElement[bool] = or_(JobRow.not_before.is_(None), JobRow.not_before <= time)
    may_begin = [
        JobRow.status == JobStatus.QUEUED,
        waited,
        JobRow.tenant.not_in(_full_tenants(session, limits, of_tenant)),
        or_(JobRow.batch.is_(None), JobRow.batch.not_in(_full_batches(session, of_batch))),
        *([] if only is None else [JobRow.id == only]),
    ]
    begun = session.scalar(select(func.min(JobRow.number)).where(*may_begin, _HAS_BEGUN))
    if begun is not None:
        return begun
    oldest = select(JobRow.tenant, func.min(JobRow.number)).where(*may_begin).group_by(JobRow.tenant)
    waiting = dict(session.execute(oldest).all())
    fewest = min((of_tenant.get(tenant, 0) for tenant in waiting), default=0)
    turn = [tenant for tenant in waiting if of_tenant.get(tenant, 0) == fewest]
    if not turn:
        return None
    last = _last_begun(session, turn) if len(turn) > 1 else {}
    # Tenants without any begun job come first; of these, whoever asked first.
    return waiting[min(turn, key=lambda tenant: (tenant in last, last.get(tenant, _LONG_AGO), waiting[tenant]))]


def _places(session: Session, time: datetime) -> tuple[dict[str, int], dict[str, int]]:
    """Numbers of taken places by tenant and by batch: running jobs, and jobs that soon run again."""
    soon = and_(
        JobRow.status == JobStatus.QUEUED,
        _HAS_BEGUN,
        JobRow.not_before > time,
        JobRow.not_before <= time + timedelta(seconds=PLACE_KEPT_SECONDS),
    )
    query = select(JobRow.tenant, JobRow.batch, func.count()).where(or_(JobRow.status.in_(_RUNS), soon))
    of_tenant: dict[str, int] = {}
    of_batch: dict[str, int] = {}
    for tenant, batch, count in session.execute(query.group_by(JobRow.tenant, JobRow.batch)):
        of_tenant[tenant] = of_tenant.get(tenant, 0) + count
        if batch is not None:
            of_batch[batch] = of_batch.get(batch, 0) + count
    return of_tenant, of_batch


def _full_tenants(session: Session, limits: Limits, running: Mapping[str, int]) -> list[str]:
    """Tenants at their running limit, or whose limit is 0."""
    asked = select(TenantRow.name, TenantRow.max_running).where(TenantRow.max_running.is_not(None))
    rows = session.execute(asked.where(or_(TenantRow.name.in_(running), TenantRow.max_running <= 0)))
    own = dict(rows.all())
    allowed = {name: own.get(name, limits.of_tenant) for name in running.keys() | own.keys()}
    return [name for name, limit in allowed.items() if limit is not None and running.get(name, 0) >= limit]


def _full_batches(session: Session, running: Mapping[str, int]) -> list[str]:
    """Batches at their running limit."""
    asked = select(BatchRow.id, BatchRow.max_running).where(BatchRow.id.in_(running))
    return [name for name, limit in session.execute(asked) if limit is not None and running[name] >= limit]


def _last_begun(session: Session, tenants: Sequence[str]) -> dict[str, datetime]:
    """Start of each tenant's latest attempt; tenants without one are left out."""
    found = {}
    for tenant in tenants:  # one query each, which reads only the end of an index
        latest = session.scalar(select(func.max(JobRow.begun_at)).where(JobRow.tenant == tenant))
        if latest is not None:
            found[tenant] = latest
    return found
