"""Store of batches: compressions that are submitted, cancelled, retried and deleted together.

A batch's state is not stored; it follows from the states of its jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, and_, case, func, select
from sqlalchemy.orm import Session, aliased

from services.access.quotas import Quotas
from services.jobs import tags
from services.jobs.records import NewJob, RequestKey
from services.jobs.rows import Gate, Sessions, TransitionError, ask_for_end, find_row, now, send_back
from services.jobs.states import LOCAL_TENANT, BatchStatus, JobStatus
from services.jobs.store import MAX_PAGE, find_keyed_row, forget, make_once, new_id, new_row
from services.jobs.tables import BatchRow, BatchTagRow, JobRow
from workloads.documents.job_folder import ResultDocument
from workloads.spec.request import KindName


class UnknownBatchError(LookupError):
    """No batch has that id."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Several compressions submitted together.

    Attributes:
        number: Position of the batch in the order of creation.
        tenant: The tenant that owns the batch.
        max_running: Limit of its jobs that run at the same time; None for no limit of its own.
        counts: Numbers of its jobs by state; states without jobs are left out.
        finished_at: End of the last job; None if a job has not ended, or the batch has no jobs.
    """

    number: int
    id: str
    tenant: str
    name: str | None
    labels: dict[str, str]
    max_running: int | None
    created_at: datetime
    counts: Mapping[JobStatus, int]
    finished_at: datetime | None

    @property
    def status(self) -> BatchStatus:
        """The batch's state, from the states of its jobs."""
        return BatchStatus.of(frozenset(self.counts))


@dataclass(frozen=True, slots=True)
class Member:
    """A compression of a batch, with the fields that the batch shows.

    Attributes:
        teacher: The teacher's model as in the request.
        teacher_kind: Its kind, if it was known on acceptance.
        attempt: Number of the latest attempt; 0 before the first.
    """

    id: str
    teacher: str
    teacher_kind: KindName | None
    status: JobStatus
    reason: str | None
    attempt: int


@dataclass(frozen=True, slots=True)
class Order:
    """A compression to queue.

    Attributes:
        request: The accepted request.
        plan: Id of a plan of exactly this request, if there is one.
        tokens: Number of tokens to train on.
    """

    request: dict[str, Any]
    plan: str | None = None
    tokens: int = 0


class BatchStore:
    """Store of batches in the database of their jobs.

    Args:
        engine: From :func:`services.jobs.database.open_database`, migrated.
        quotas: The tenants' quotas; by default only tenants' own limits apply.
        gate: Refuses changes when the service stops.
    """

    def __init__(self, engine: Engine, quotas: Quotas | None = None, gate: Gate | None = None) -> None:
        self._sessions = Sessions(engine, gate)
        self._quotas = quotas or Quotas()

    def create(
        self,
        orders: Sequence[Order],
        *,
        tenant: str = LOCAL_TENANT,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        max_running: int | None = None,
        key: RequestKey | None = None,
    ) -> Batch:
        """Add a batch with its queued jobs, all or nothing.

        Args:
            orders: The compressions, at least one.
            tenant: The tenant that owns the batch.
            name: Free text.
            labels: Labels of the batch itself.
            max_running: Limit of its jobs that run at the same time.
            key: Idempotency key of the request; if it was sent before, the batch made then is returned.

        Raises:
            KeyReusedError: The key was sent before, with another request.
            QuotaExceededError: A quota of the tenant would be exceeded.
            UnknownJobError: A plan was deleted meanwhile.
        """
        batch_id = new_id("bat")

        def make(session: Session) -> BatchRow:
            # Lock the plans in a fixed order, so that two batches cannot deadlock.
            for plan in sorted({order.plan for order in orders if order.plan is not None}):
                find_row(session, plan, tenant=tenant, lock=True)
            self._quotas.admit(session, tenant, jobs=len(orders), tokens=sum(order.tokens for order in orders))
            found_by = tags.digests("batch", tenant, iter(tags.labels(labels or {})))
            batch = BatchRow(
                id=batch_id,
                tags=[BatchTagRow(digest=digest) for digest in found_by],
                tenant=tenant,
                name=name,
                labels=dict(labels or {}),
                max_running=max_running,
                created_at=now(),
            )
            session.add(batch)
            rows = [
                new_row(NewJob(order.request, tenant=tenant, parent=order.plan, tokens=order.tokens), batch_id)
                for order in orders
            ]
            for row in rows:
                session.add(row)
                session.flush()  # one by one, so that the numbers follow the request's order
            return batch

        return make_once(self._sessions, key, BatchRow, make, _read)

    def find_keyed(self, key: RequestKey) -> Batch | None:
        """Find the batch made by a request with this key; see :meth:`JobStore.find_keyed`."""
        with self._sessions.reading() as session:
            found = find_keyed_row(session, key, BatchRow)
            return None if found is None else _read(session, found)

    def get(self, batch_id: str, *, tenant: str | None = None) -> Batch:
        """Read a batch.

        Raises:
            UnknownBatchError: The tenant has no batch of that id.
        """
        with self._sessions.reading() as session:
            row = _find(session, batch_id, tenant)
            return _read(session, row)

    def page(
        self,
        *,
        tenant: str | None = None,
        labels: Mapping[str, str] | None = None,
        limit: int = 50,
        before: int | None = None,
    ) -> list[Batch]:
        """Read up to ``limit`` batches, newest first.

        Args:
            tenant: Only batches of this tenant.
            labels: Only batches that have all of these labels.
            limit: Most batches; at most one more than :data:`services.jobs.store.MAX_PAGE`.
            before: Only batches with a lower number, which are older.
        """
        query = select(BatchRow).order_by(BatchRow.number.desc()).limit(min(limit, MAX_PAGE + 1))
        if tenant is not None:
            query = query.where(BatchRow.tenant == tenant)
        for wanted in tags.labels(labels or {}):
            tag = aliased(BatchTagRow)
            by_tag = and_(tag.batch_number == BatchRow.number, tag.digest == tags.digest_of("batch", tenant, wanted))
            query = query.join(tag, by_tag)
        if before is not None:
            query = query.where(BatchRow.number < before)
        with self._sessions.reading() as session:
            return _batches(session, session.scalars(query).all())

    def members(self, batch_id: str) -> list[Member]:
        """List the compressions of a batch, in the order of its request."""
        query = select(JobRow.id, JobRow.summary, JobRow.status, JobRow.reason, JobRow.attempt)
        with self._sessions.reading() as session:
            found = session.execute(query.where(JobRow.batch == batch_id).order_by(JobRow.number))
            return [
                Member(one, shown.get("teacher") or "", shown.get("teacher_kind"), JobStatus(state), *rest)
                for one, shown, state, *rest in found
            ]

    def results(self, batch_id: str) -> Iterator[tuple[Member, ResultDocument | None]]:
        """Yield the compressions of a batch with their results, None before their end; it reads one at a time."""
        for member in self.members(batch_id):
            query = select(JobRow.status, JobRow.result).where(JobRow.id == member.id)
            with self._sessions.reading() as session:
                found = session.execute(query).first()
            if found is not None:  # else the job was deleted meanwhile
                status, result = found
                held = None if result is None else ResultDocument.model_validate(result)
                yield replace(member, status=JobStatus(status)), held

    def counts(self) -> dict[BatchStatus, int]:
        """Count the batches by state; batches without jobs are left out."""
        states = list(JobStatus)
        present = [func.max(case((JobRow.status == status, 1), else_=0)).label(status) for status in states]
        each = select(*present).where(JobRow.batch.is_not(None)).group_by(JobRow.batch).subquery()
        counts: dict[BatchStatus, int] = {}
        with self._sessions.reading() as session:
            for *flags, count in session.execute(select(*each.c, func.count()).group_by(*each.c)):
                held = frozenset(status for status, flag in zip(states, flags, strict=True) if flag)
                status = BatchStatus.of(held)
                counts[status] = counts.get(status, 0) + count
        return counts

    def request_cancel(self, batch_id: str, *, tenant: str | None = None) -> Batch:
        """Cancel all jobs that have not ended; repeating it changes nothing.

        Raises:
            TransitionError: All jobs have ended, and not all were cancelled.
            UnknownBatchError: There is no such batch.
        """
        with self._sessions.writing() as session:
            row, jobs = _find_whole(session, batch_id, tenant)
            unfinished = [job for job in jobs if not JobStatus(job.status).is_terminal]
            for job in unfinished:
                ask_for_end(job)
            session.flush()
            batch = _read(session, row)
            if not unfinished and batch.status is not BatchStatus.CANCELLED:
                raise TransitionError(batch_id, batch.status, BatchStatus.CANCELLED)
            return batch

    def retry(self, batch_id: str, *, tenant: str | None = None) -> Batch:
        """Queue the batch's failed and cancelled jobs again; the others do not change.

        Raises:
            QuotaExceededError: The tenant's quota of unfinished jobs would be exceeded.
            TransitionError: No job has failed or was cancelled.
            UnknownBatchError: There is no such batch.
        """
        with self._sessions.writing() as session:
            row, jobs = _find_whole(session, batch_id, tenant)
            again = [job for job in jobs if JobStatus(job.status).may_be_resumed]
            if not again:
                raise TransitionError(batch_id, _read(session, row).status, "queued again")
            self._quotas.admit(session, row.tenant, jobs=len(again))
            for job in again:
                send_back(job)
            session.flush()
            return _read(session, row)

    def delete(self, batch_id: str, clear: Callable[[str], None], *, tenant: str | None = None) -> None:
        """Delete a batch whose jobs have all ended, with its jobs and all jobs made from them.

        Args:
            batch_id: The batch.
            clear: Removes the job's folder, by its id; if it fails, nothing is deleted.
            tenant: Owner that the batch must have; None for any.

        Raises:
            TransitionError: A job has not ended.
            UnknownBatchError: There is no such batch.
        """
        with self._sessions.writing() as session:
            row, jobs = _find_whole(session, batch_id, tenant)
            session.delete(row)
            forget(session, jobs, clear)


def _find(session: Session, batch_id: str, tenant: str | None, *, lock: bool = False) -> BatchRow:
    query = select(BatchRow).where(BatchRow.id == batch_id)
    if tenant is not None:
        query = query.where(BatchRow.tenant == tenant)
    row = session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise UnknownBatchError(batch_id)
    return row


def _find_whole(session: Session, batch_id: str, tenant: str | None) -> tuple[BatchRow, list[JobRow]]:
    """Find and lock a batch and its jobs, the jobs always in the same order."""
    row = _find(session, batch_id, tenant, lock=True)
    jobs = select(JobRow).where(JobRow.batch == batch_id).order_by(JobRow.number).with_for_update()
    return row, list(session.scalars(jobs))


def _read(session: Session, row: BatchRow) -> Batch:
    return _batches(session, [row])[0]


def _batches(session: Session, rows: Sequence[BatchRow]) -> list[Batch]:
    """Convert rows into records, with the counts of their jobs."""
    query = (
        select(JobRow.batch, JobRow.status, func.count(), func.max(JobRow.finished_at))
        .where(JobRow.batch.in_([row.id for row in rows]))
        .group_by(JobRow.batch, JobRow.status)
    )
    counts: dict[str, dict[JobStatus, int]] = {row.id: {} for row in rows}
    ended: dict[str, list[datetime]] = {row.id: [] for row in rows}
    for batch, status, count, last in session.execute(query):
        assert batch is not None  # the query selects only jobs of these batches
        counts[batch][JobStatus(status)] = count
        if last is not None:
            ended[batch].append(last)
    return [
        Batch(
            number=row.number,
            id=row.id,
            tenant=row.tenant,
            name=row.name,
            labels=row.labels,
            max_running=row.max_running,
            created_at=row.created_at,
            counts=counts[row.id],
            finished_at=max(ended[row.id], default=None) if all(one.is_terminal for one in counts[row.id]) else None,
        )
        for row in rows
    ]
