"""Tenants and their quotas; a tenant does not see the jobs of others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services.jobs.rows import Sessions, now
from services.jobs.tables import TenantRow
from workloads.spec.errors import InputError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of a tenant; None for no limit.

    Attributes:
        max_running: Jobs that run at the same time; more of them wait.
        max_unfinished: Jobs that wait or run.
        max_tokens: Tokens to train on, over all jobs that were ever accepted.
        max_stored_bytes: Bytes of artefacts that its jobs have built, until these are deleted and pruned.
    """

    max_running: int | None = None
    max_unfinished: int | None = None
    max_tokens: int | None = None
    max_stored_bytes: int | None = None


QUOTAS = tuple(Quota.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant and its own limits; for the others, the service's settings apply."""

    name: str
    own: Quota
    created_at: datetime


class TenantStore:
    """Store of the tenants in a database.

    Args:
        engine: From :func:`services.jobs.database.open_database`, migrated.
    """

    def __init__(self, engine: Engine) -> None:
        self._sessions = Sessions(engine)

    def set(self, name: str, limits: Mapping[str, int | None]) -> Tenant:
        """Set limits of a tenant, and create the tenant if it does not exist.

        Args:
            name: Name of the tenant.
            limits: Map of quota to limit; None removes the tenant's own limit. Other limits stay.
        """
        with self._sessions.writing() as session:
            row = ensure_tenant(session, name)
            for quota, limit in limits.items():
                assert quota in QUOTAS, quota
                setattr(row, quota, limit)
            session.flush()
            return _tenant_of(row)

    def all(self) -> list[Tenant]:
        """List all tenants, by name."""
        with self._sessions.reading() as session:
            return [_tenant_of(row) for row in session.scalars(select(TenantRow).order_by(TenantRow.name))]


def ensure_tenant(session: Session, name: str) -> TenantRow:
    """Return a tenant's row, locked; create it if it does not exist.

    Raises:
        InputError: The name is not valid.
    """
    if _NAME.fullmatch(name) is None:
        raise InputError.of(
            "tenant",
            f"{name!r} is not a valid tenant name.",
            "Use up to 64 letters, digits and ._- without spaces; begin with a letter or digit.",
        )
    row = session.get(TenantRow, name, with_for_update=True)
    if row is not None:
        return row
    try:
        with session.begin_nested():
            row = TenantRow(name=name, created_at=now())
            session.add(row)
    except IntegrityError:  # another transaction has just created it
        row = session.get(TenantRow, name, with_for_update=True)
    assert row is not None
    return row


def quota_of(row: TenantRow) -> Quota:
    """Return a tenant's own limits."""
    return Quota(**{name: getattr(row, name) for name in QUOTAS})


def _tenant_of(row: TenantRow) -> Tenant:
    return Tenant(row.name, quota_of(row), row.created_at)
