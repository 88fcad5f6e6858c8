"""Callers: the tenant and the permissions behind a request."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from services.jobs.states import LOCAL_TENANT


class Scope(StrEnum):
    """A permission of a key."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request.

    Attributes:
        tenant: The tenant that the caller belongs to.
        scopes: The caller's permissions.
        key_id: Id of the key used; None if the service requires no keys.
    """

    tenant: str
    scopes: frozenset[Scope]
    key_id: str | None = None

    def may(self, scope: Scope) -> bool:
        """Whether the caller has a permission; administrators have all of them."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    @property
    def sees(self) -> str | None:
        """The tenant whose jobs the caller sees; None for all tenants."""
        return None if Scope.ADMIN in self.scopes else self.tenant


LOCAL = Caller(LOCAL_TENANT, frozenset(Scope))
