"""Quotas of tenants, checked inside the transaction that creates jobs.

The limit on running jobs is not checked here: the controller (:mod:`services.jobs.work`) lets jobs over it wait.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from services.access.tenants import QUOTAS, Quota, ensure_tenant, quota_of
from services.jobs.states import JobStatus
from services.jobs.tables import ForgottenJobRow, JobRow, TenantRow

_RUNS = (JobStatus.RUNNING, JobStatus.CANCELLING)
_UNFINISHED = (JobStatus.QUEUED, *_RUNS)
# First half of the key of a tenant's advisory lock in PostgreSQL; the tenant's name gives the second.
_QUOTA_LOCK = 745518


class QuotaExceededError(RuntimeError):
    """A tenant has reached a quota.

    Attributes:
        quota: The name of the limit.
        passes: Whether the same request may succeed later without any change by a person.
    """

    def __init__(self, quota: str, message: str, *, passes: bool = False) -> None:
        self.quota = quota
        self.passes = passes
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Usage:
    """Usage of a tenant; see :class:`Quota` for the units."""

    running: int
    unfinished: int
    tokens: int
    stored_bytes: int


class Quotas:
    """Quotas of all tenants.

    Args:
        defaults: Limits for tenants without limits of their own.
    """

    def __init__(self, defaults: Quota = Quota()) -> None:  # noqa: B008 - it is frozen
        self._defaults = defaults

    def of(self, session: Session, tenant: str) -> Quota:
        """Limits of a tenant: its own, else the defaults."""
        row = session.get(TenantRow, tenant)
        own = quota_of(row) if row is not None else Quota()
        limits = {name: getattr(own, name) for name in QUOTAS}
        return Quota(
            **{name: getattr(self._defaults, name) if limits[name] is None else limits[name] for name in limits}
        )

    def usage(self, session: Session, tenant: str) -> Usage:
        """Usage of a tenant; deleted jobs still count in tokens, and in bytes until they are pruned."""
        query = select(
            func.count().filter(JobRow.status.in_(_RUNS)),
            func.count().filter(JobRow.status.in_(_UNFINISHED)),
            func.coalesce(func.sum(JobRow.tokens), 0),
            func.coalesce(func.sum(JobRow.stored_bytes), 0),
        )
        running, unfinished, tokens, stored = session.execute(query.where(JobRow.tenant == tenant)).one()
        left = select(func.coalesce(func.sum(ForgottenJobRow.stored_bytes), 0)).where(ForgottenJobRow.tenant == tenant)
        stored += session.scalar(left) or 0
        row = session.get(TenantRow, tenant)
        past = (row.forgotten_tokens, row.forgotten_bytes) if row is not None else (0, 0)
        return Usage(running, unfinished, int(tokens) + past[0], int(stored) + past[1])

    def admit(self, session: Session, tenant: str, *, jobs: int = 1, tokens: int = 0) -> None:
        """Check the quota for new jobs; such transactions are serialised per tenant.

        Args:
            session: Session of a writing transaction.
            tenant: Owner of the jobs.
            jobs: Number of new jobs.
            tokens: Tokens that the new jobs train on, in total.

        Raises:
            QuotaExceededError: A limit would be exceeded.
        """
        if session.get_bind().dialect.name == "postgresql":  # SQLite serialises all writers
            lock = text("SELECT pg_advisory_xact_lock(:kind, hashtext(:tenant))")
            session.execute(lock, {"kind": _QUOTA_LOCK, "tenant": tenant})
        quota = self.of(session, tenant)
        if quota.max_unfinished is None and quota.max_tokens is None and quota.max_stored_bytes is None:
            return
        used = self.usage(session, tenant)
        if quota.max_unfinished is not None and used.unfinished + jobs > quota.max_unfinished:
            raise QuotaExceededError(
                "max_unfinished",
                f"{tenant} has {used.unfinished} unfinished jobs; with {jobs} more it would exceed its limit of "
                f"{quota.max_unfinished}. Ask again when some have ended, or cancel some.",
                passes=jobs <= quota.max_unfinished,
            )
        if quota.max_tokens is not None and used.tokens + tokens > quota.max_tokens and tokens > 0:
            raise QuotaExceededError(
                "max_tokens",
                f"{tenant} has used {used.tokens:,} of {quota.max_tokens:,} tokens to train on; this request needs "
                f"{tokens:,} more. Lower training.tokens_per_superlm (an evaluation's epochs, seeds or rows), or ask "
                "an administrator to raise the limit.",
            )
        if quota.max_stored_bytes is not None and used.stored_bytes >= quota.max_stored_bytes:
            raise QuotaExceededError(
                "max_stored_bytes",
                f"The jobs of {tenant} have stored {used.stored_bytes:,} bytes; the limit is "
                f"{quota.max_stored_bytes:,}. Delete jobs and ask an administrator to prune, or to raise the limit.",
            )


def remember_forgotten(session: Session, rows: Sequence[JobRow]) -> None:
    """Record the usage of jobs that are deleted: their tokens are spent, and their artefacts stay until pruned."""
    for tenant in sorted({row.tenant for row in rows}):
        mine = [row for row in rows if row.tenant == tenant]
        if any(row.tokens for row in mine):
            ensure_tenant(session, tenant).forgotten_tokens += sum(row.tokens for row in mine)
        left = (row for row in mine if row.stored_bytes)
        session.add_all(ForgottenJobRow(id=row.id, tenant=tenant, stored_bytes=row.stored_bytes) for row in left)


def give_back(session: Session, left: Mapping[str, int], *, all_known: bool) -> dict[str, int]:
    """Lower the stored bytes of deleted jobs to the artefacts that still exist.

    Args:
        session: Session of a writing transaction.
        left: Map of deleted job to the bytes of its existing artefacts that count for its tenant; jobs without any are
            left out.
        all_known: Whether the builder of every existing artefact is on record. Then no artefacts exist of jobs that
            were deleted before usage was recorded per job.

    Returns:
        Bytes given back, by tenant.
    """
    given: dict[str, int] = {}
    for row in session.scalars(select(ForgottenJobRow).with_for_update()):
        now = min(row.stored_bytes, left.get(row.id, 0))
        given[row.tenant] = given.get(row.tenant, 0) + row.stored_bytes - now
        row.stored_bytes = now
        if row.id not in left:
            session.delete(row)
    if all_known:
        for tenant in session.scalars(select(TenantRow).where(TenantRow.forgotten_bytes > 0).with_for_update()):
            given[tenant.name] = given.get(tenant.name, 0) + tenant.forgotten_bytes
            tenant.forgotten_bytes = 0
    return {tenant: amount for tenant, amount in given.items() if amount > 0}
