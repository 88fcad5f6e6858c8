"""Store of jobs for people's requests: each change is one short transaction that first checks the job's state.

:mod:`services.jobs.work` is the store for the controller.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Engine, Select, and_, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from services.access.quotas import Quotas, remember_forgotten
from services.jobs import summaries, tags
from services.jobs.records import Job, JobFilter, JobSummary, NewJob, RequestKey
from services.jobs.rows import (
    PREFIXES,
    Gate,
    Sessions,
    TransitionError,
    ask_for_end,
    find_row,
    job_of,
    now,
    send_back,
)
from services.jobs.states import LOCAL_TENANT, AttemptStatus, JobStatus
from services.jobs.tables import AttemptRow, BatchRow, JobRow, JobTagRow, RequestKeyRow
from workloads.documents.job_folder import JobKind

_Row = TypeVar("_Row", JobRow, BatchRow)
_Made = TypeVar("_Made")
_MADE_FROM: tuple[JobKind, ...] = ("selection", "evaluation")
"""Kinds of jobs that are deleted with the compression that they were made from."""
MAX_PAGE = 200
"""Most entries of a page that a client may request."""


class KeyReusedError(ValueError):
    """A request's key was sent before, with another request."""

    def __init__(self, key: RequestKey) -> None:
        super().__init__(f"The key {key.key!r} was sent before with another request. Give each request its own.")


class JobStore:
    """Store of jobs and their attempts in a database.

    Args:
        engine: From :func:`services.jobs.database.open_database`, migrated.
        quotas: The tenants' quotas; by default only tenants' own limits apply.
        gate: Refuses changes when the service stops.
    """

    def __init__(self, engine: Engine, quotas: Quotas | None = None, gate: Gate | None = None) -> None:
        self._sessions = Sessions(engine, gate)
        self._quotas = quotas or Quotas()

    def create(self, new: NewJob, *, key: RequestKey | None = None) -> Job:
        """Add a queued job, or a succeeded one that needs no run.

        Args:
            new: The job.
            key: Idempotency key of the request; if it was sent before, the job made then is returned.

        Raises:
            KeyReusedError: The key was sent before, with another request.
            QuotaExceededError: A quota of the tenant would be exceeded.
            UnknownJobError: There is no such parent.
        """
        row = new_row(new)
        row.scores, row.answer = new.scores, None if new.answer is None else new.answer(row.id)
        if new.result is not None:
            row.status, row.finished_at = JobStatus.SUCCEEDED, row.created_at
            row.result, row.steps = new.result(row.id).model_dump(mode="json"), []
            row.summary = summaries.with_students(row.summary, row.result["students"])

        def make(session: Session) -> JobRow:
            if new.parent is not None:
                find_row(session, new.parent, tenant=new.tenant, lock=True)  # so that it is not deleted meanwhile
            if new.result is None:  # a job without a run uses nothing that is limited
                self._quotas.admit(session, new.tenant, tokens=new.tokens)
            session.add(row)
            return row

        return make_once(self._sessions, key, JobRow, make, _read)

    def find_keyed(self, key: RequestKey) -> Job | None:
        """Find the job made by a request with this key.

        Raises:
            KeyReusedError: The key was sent before, with another request.
        """
        with self._sessions.reading() as session:
            found = find_keyed_row(session, key, JobRow)
            return None if found is None else job_of(found)

    def latest_plan(self, request: dict[str, Any], tenant: str = LOCAL_TENANT) -> Job | None:
        """Find the tenant's newest succeeded plan of exactly this request."""
        query = (
            select(JobRow)
            .where(JobRow.digest == digest_of(request), JobRow.kind == "plan", JobRow.tenant == tenant)
            .where(JobRow.status == JobStatus.SUCCEEDED)
            .order_by(JobRow.number.desc())
            .limit(1)
        )
        with self._sessions.reading() as session:
            row = session.scalar(query)
            return None if row is None else job_of(row)

    def get(self, job_id: str, kind: JobKind | None = None, *, tenant: str | None = None) -> Job:
        """Read a job; if a kind or a tenant is given, the job must have it.

        Raises:
            UnknownJobError: There is no such job.
        """
        with self._sessions.reading() as session:
            return job_of(find_row(session, job_id, kind, tenant=tenant))

    def page(self, wanted: JobFilter | None = None, *, limit: int = 50, before: int | None = None) -> list[Job]:
        """Read up to ``limit`` jobs, newest first.

        Args:
            wanted: Filter of the jobs; by default all compressions.
            limit: Most jobs.
            before: Only jobs with a lower number, which are older.
        """
        with self._sessions.reading() as session:
            numbers = _numbers(session, wanted or JobFilter(), limit, before)
            if not numbers:
                return []
            rows = session.scalars(select(JobRow).where(JobRow.number.in_(numbers)).order_by(JobRow.number.desc()))
            return [job_of(row) for row in rows]

    def summaries(
        self, wanted: JobFilter | None = None, *, limit: int = 50, before: int | None = None
    ) -> list[JobSummary]:
        """Read the summaries of up to ``limit`` jobs, newest first; for the arguments see :meth:`page`."""
        with self._sessions.reading() as session:
            numbers = _numbers(session, wanted or JobFilter(), limit, before)
            if not numbers:
                return []
            query = select(*_SHOWN).where(JobRow.number.in_(numbers)).order_by(JobRow.number.desc())
            return [
                JobSummary(number, job_id, batch, JobStatus(status), *rest)
                for number, job_id, batch, status, *rest in session.execute(query)
            ]

    def limits_tokens(self, tenant: str) -> bool:
        """Whether a quota limits the tokens that a tenant's jobs train on."""
        with self._sessions.reading() as session:
            return self._quotas.of(session, tenant).max_tokens is not None

    def selections(self, compression_id: str) -> Iterator[Job]:
        """Read all selections of a compression, newest first, a page at a time."""
        before = None
        wanted = JobFilter("selection", parent=compression_id)
        while found := self.page(wanted, limit=MAX_PAGE, before=before):
            yield from found
            before = found[-1].number

    def counts(self) -> tuple[dict[tuple[JobKind, JobStatus], int], dict[AttemptStatus, int]]:
        """Count the jobs by kind and state, and the attempts by state."""
        jobs = select(JobRow.kind, JobRow.status, func.count()).group_by(JobRow.kind, JobRow.status)
        attempts = select(AttemptRow.status, func.count()).group_by(AttemptRow.status)
        with self._sessions.reading() as session:
            return (
                {(kind, JobStatus(status)): count for kind, status, count in session.execute(jobs)},
                {AttemptStatus(status): count for status, count in session.execute(attempts)},
            )

    def request_cancel(self, job_id: str) -> Job:
        """Cancel a job: a queued one at once, a running one by the controller.

        Repeating it changes nothing.

        Raises:
            TransitionError: The job has succeeded or failed.
        """
        with self._sessions.writing() as session:
            row = find_row(session, job_id, lock=True)
            ask_for_end(row)
            session.flush()
            return job_of(row)

    def resume(self, job_id: str) -> Job:
        """Queue a failed or cancelled job again; it may fail as often as a new one.

        Raises:
            QuotaExceededError: The tenant's quota of unfinished jobs would be exceeded.
            TransitionError: The job has not ended, or has succeeded.
        """
        with self._sessions.writing() as session:
            row = find_row(session, job_id, lock=True)
            with session.no_autoflush:  # so that the quota's query does not count this job
                send_back(row)
                self._quotas.admit(session, row.tenant)
            session.flush()
            return job_of(row)

    def delete(self, job_id: str, clear: Callable[[str], None]) -> None:
        """Delete an ended job, and all jobs made from it.

        Args:
            job_id: The job.
            clear: Removes the job's folder, by its id; if it fails, no job is deleted.

        Raises:
            TransitionError: The job, or a job made from it, has not ended.
        """
        with self._sessions.writing() as session:
            row = find_row(session, job_id, lock=True)
            forget(session, [row], clear)


def new_row(new: NewJob, batch: str | None = None) -> JobRow:
    """Make the row of a queued job with a new id; it is not in the database yet."""
    found_by = tags.digests(new.kind, new.tenant, tags.filters_of(new.request, batch, new.parent))
    return JobRow(
        id=new_id(PREFIXES[new.kind]),
        summary=summaries.of_request(new.request),
        tags=[JobTagRow(digest=digest) for digest in found_by],
        kind=new.kind,
        tenant=new.tenant,
        batch=batch,
        parent=new.parent,
        digest=digest_of(new.request),
        status=JobStatus.QUEUED,
        request=new.request,
        attempt=0,
        tokens=new.tokens,
        created_at=now(),
    )


_SHOWN = (
    *(JobRow.number, JobRow.id, JobRow.batch, JobRow.status, JobRow.reason, JobRow.attempt, JobRow.summary),
    *(JobRow.created_at, JobRow.started_at, JobRow.finished_at),
)


def _numbers(session: Session, wanted: JobFilter, limit: int, before: int | None) -> list[int]:
    """Find the numbers of the newest jobs of a list, by indexes only."""
    filters = tags.labels(wanted.labels)
    named = {"batch": wanted.batch, "parent": wanted.parent, "student": wanted.student}
    filters += [(name, value) for name, value in named.items() if value is not None]
    found: list[int] = []
    for teacher in wanted.teachers or (None,):  # one query each; a query for several teachers would use no index
        one = filters if teacher is None else [("teacher", teacher), *filters]
        query = _tagged(wanted, one) if one else _untagged(wanted)
        number = query.selected_columns[0]
        if before is not None:
            query = query.where(number < before)
        found += session.scalars(query.order_by(number.desc()).limit(limit))
    return sorted(set(found), reverse=True)[:limit]


def _untagged(wanted: JobFilter) -> Select[int]:
    query = select(JobRow.number).where(JobRow.kind == wanted.kind)
    if wanted.tenant is not None:
        query = query.where(JobRow.tenant == wanted.tenant)
    return query if wanted.status is None else query.where(JobRow.status == wanted.status)


def _tagged(wanted: JobFilter, filters: Sequence[tags.Filter]) -> Select[int]:
    """Select jobs with all of these tags, which also cover the kind and the tenant."""
    first, *others = (tags.digest_of(wanted.kind, wanted.tenant, one) for one in filters)
    query = select(JobTagRow.job_number).where(JobTagRow.digest == first)
    for digest in others:
        other = aliased(JobTagRow)
        query = query.join(other, and_(other.job_number == JobTagRow.job_number, other.digest == digest))
    if wanted.status is not None:
        query = query.join(JobRow, JobRow.number == JobTagRow.job_number).where(JobRow.status == wanted.status)
    return query


def new_id(prefix: str) -> str:
    """Make a unique id."""
    return f"{prefix}_{uuid.uuid4().hex[:16]}"


def make_once(
    sessions: Sessions,
    key: RequestKey | None,
    kind: type[_Row],
    make: Callable[[Session], _Row],
    read: Callable[[Session, _Row], _Made],
) -> _Made:
    """Make a job or a batch in one transaction, unless the request's key was sent before.

    Args:
        sessions: The database's sessions.
        key: Idempotency key of the request.
        kind: Class of the made row.
        make: Adds the rows, and returns the one that the key refers to.
        read: Converts that row into a record.

    Returns:
        The record, of this call or of the first request with the key.

    Raises:
        KeyReusedError: The key was sent before, with another request.
    """
    try:
        with sessions.writing() as session:
            if key is not None and (known := find_keyed_row(session, key, kind)) is not None:
                return read(session, known)
            row = make(session)
            session.flush()
            if key is not None:
                place = {"job_number" if isinstance(row, JobRow) else "batch_number": row.number}
                session.add(RequestKeyRow(scope=key.scope, key=key.key, digest=key.digest, created_at=now(), **place))
                session.flush()
            return read(session, row)
    except IntegrityError:
        # On PostgreSQL another writer may have inserted the key after our look-up.
        if key is not None:
            with sessions.reading() as session:
                if (earlier := find_keyed_row(session, key, kind)) is not None:
                    return read(session, earlier)
        raise


def forget(session: Session, rows: Sequence[JobRow], clear: Callable[[str], None]) -> None:
    """Delete ended jobs, and all jobs made from them; see :meth:`JobStore.delete`.

    Raises:
        TransitionError: One of the jobs has not ended.
    """
    ids = [row.id for row in rows]
    made = select(JobRow).where(JobRow.parent.in_(ids), JobRow.kind.in_(_MADE_FROM)).with_for_update()
    doomed = [*rows, *session.scalars(made)]
    for one in doomed:
        if not JobStatus(one.status).is_terminal:
            raise TransitionError(one.id, JobStatus(one.status), "deleted")
    remember_forgotten(session, doomed)
    # Compressions of a deleted plan stay, without parent; every other child is deleted too.
    session.execute(update(JobRow).where(JobRow.parent.in_(ids), JobRow.kind == "compression").values(parent=None))
    for one in doomed:
        session.delete(one)
    session.flush()
    # Inside the transaction, so that no job is resumed while its folder is removed.
    for one in doomed:
        clear(one.id)


def find_keyed_row(session: Session, key: RequestKey, kind: type[_Row]) -> _Row | None:
    """Find the row of this class made by a request with this key.

    Raises:
        KeyReusedError: The key was sent before, with another request.
    """
    found = session.get(RequestKeyRow, (key.scope, key.key))
    if found is None:
        return None
    if found.digest != key.digest:
        raise KeyReusedError(key)
    number = found.job_number if kind is JobRow else found.batch_number
    return None if number is None else session.get(kind, number)


def _read(_session: Session, row: JobRow) -> Job:
    return job_of(row)


def digest_of(request: dict[str, Any]) -> str:
    """Compute the digest of a request; equal requests have equal digests."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
