"""Tables of the database, which has the state of all jobs; the migrations create them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, ForeignKey, Index, String, Text, TypeDecorator
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from services.jobs.states import LOCAL_TENANT
from workloads.documents.job_folder import JobKind


class UtcDateTime(TypeDecorator[datetime]):
    """Time in UTC; SQLite does not store the zone, so it is added on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class PlainText(TypeDecorator[str]):
    """Text of any origin, such as a run's output; NULs are replaced, since PostgreSQL cannot store them."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Store the text without NULs."""
        return None if value is None else value.replace("\0", "\ufffd")


class Base(DeclarativeBase):
    """Base of the tables."""


class JobRow(Base):
    """One job; ``number`` is its position in the order of creation.

    ``owner``, ``token`` and ``claimed_until`` are the claim of the service that works on it, if any.
    ``summary`` is the part of the request and the result that lists show; see :mod:`services.jobs.summaries`.
    ``begun_at`` is the start of the latest attempt.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_status_number", "status", "number"),
        Index("ix_jobs_kind_number", "kind", "number"),
        Index("ix_jobs_kind_status_number", "kind", "status", "number"),
        Index("ix_jobs_tenant_kind_number", "tenant", "kind", "number"),
        Index("ix_jobs_tenant_kind_status_number", "tenant", "kind", "status", "number"),
        Index("ix_jobs_batch_status", "batch", "status", "finished_at"),
        Index("ix_jobs_tenant_begun", "tenant", "begun_at"),
        Index("ix_jobs_tenant_use", "tenant", "status", "tokens", "stored_bytes"),
        {"sqlite_autoincrement": True},
    )

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    kind: Mapped[JobKind] = mapped_column(String(16), default="compression")
    tenant: Mapped[str] = mapped_column(String(64), default=LOCAL_TENANT, server_default=LOCAL_TENANT)
    batch: Mapped[str | None] = mapped_column(String(64))
    parent: Mapped[str | None] = mapped_column(String(64), index=True)
    scores: Mapped[str | None] = mapped_column(String(64))
    digest: Mapped[str | None] = mapped_column(String(64), index=True)
    status: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(PlainText)
    request: Mapped[dict[str, Any]] = mapped_column(JSON)
    attempt: Mapped[int] = mapped_column(default=0)
    resumed_after: Mapped[int] = mapped_column(default=0, server_default="0")
    not_before: Mapped[datetime | None] = mapped_column(UtcDateTime)
    owner: Mapped[str | None] = mapped_column(String(128), index=True)
    token: Mapped[str | None] = mapped_column(String(32))
    claimed_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    tokens: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    stored_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    begun_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    summary: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict, server_default="{}")
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    answer: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    steps: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))

    attempts: Mapped[list[AttemptRow]] = relationship(
        back_populates="job", order_by="AttemptRow.number", cascade="all, delete-orphan", lazy="selectin"
    )
    tags: Mapped[list[JobTagRow]] = relationship(passive_deletes="all", lazy="raise")


class JobTagRow(Base):
    """A digest of a filter that finds the job, such as a label; see :mod:`services.jobs.tags`."""

    __tablename__ = "job_tags"

    digest: Mapped[str] = mapped_column(String(32), primary_key=True)
    job_number: Mapped[int] = mapped_column(
        ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True, index=True, autoincrement=False
    )


class AttemptRow(Base):
    """One run of a job on the cluster."""

    __tablename__ = "attempts"
    __table_args__ = (Index("ix_attempts_status", "status"),)

    job_number: Mapped[int] = mapped_column(ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    status: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(PlainText)
    submission_id: Mapped[str] = mapped_column(String(96))
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    job: Mapped[JobRow] = relationship(back_populates="attempts")


class RequestKeyRow(Base):
    """A key that a client has sent with a request; a scope and a key make at most one job or batch.

    It points to what was made, a job or a batch, and goes with it.
    """

    __tablename__ = "request_keys"

    scope: Mapped[str] = mapped_column(String(255), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    job_number: Mapped[int | None] = mapped_column(ForeignKey("jobs.number", ondelete="CASCADE"), index=True)
    batch_number: Mapped[int | None] = mapped_column(
        ForeignKey("batches.number", ondelete="CASCADE", name="fk_request_keys_batch"), index=True
    )
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class BatchRow(Base):
    """Several compressions that were submitted together; ``number`` is the position in the order of creation."""

    __tablename__ = "batches"
    __table_args__ = (Index("ix_batches_tenant_number", "tenant", "number"), {"sqlite_autoincrement": True})

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    tenant: Mapped[str] = mapped_column(String(64), default=LOCAL_TENANT, server_default=LOCAL_TENANT)
    name: Mapped[str | None] = mapped_column(String(255))
    labels: Mapped[dict[str, str]] = mapped_column(JSON)
    max_running: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)

    tags: Mapped[list[BatchTagRow]] = relationship(passive_deletes="all", lazy="raise")


class BatchTagRow(Base):
    """A digest of a label of a batch."""

    __tablename__ = "batch_tags"

    digest: Mapped[str] = mapped_column(String(32), primary_key=True)
    batch_number: Mapped[int] = mapped_column(
        ForeignKey("batches.number", ondelete="CASCADE"), primary_key=True, index=True, autoincrement=False
    )


class TenantRow(Base):
    """A tenant and its quotas; for empty ones the service's settings apply.

    ``forgotten_tokens`` are those of deleted jobs. ``forgotten_bytes`` are those of jobs that were deleted before
    :class:`ForgottenJobRow` existed.
    """

    __tablename__ = "tenants"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    max_running: Mapped[int | None]
    max_unfinished: Mapped[int | None]
    max_tokens: Mapped[int | None] = mapped_column(BigInteger)
    max_stored_bytes: Mapped[int | None] = mapped_column(BigInteger)
    forgotten_tokens: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    forgotten_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ForgottenJobRow(Base):
    """A deleted job whose artefacts still exist; its bytes count until they are pruned."""

    __tablename__ = "forgotten_jobs"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64), index=True)
    stored_bytes: Mapped[int] = mapped_column(BigInteger)


class ApiKeyRow(Base):
    """A key of a tenant, with a digest of its secret."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(255))
    scopes: Mapped[list[str]] = mapped_column(JSON)
    digest: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
