"""Who a request comes from, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from services.jobs.states import LOCAL_TENANT


class Scope(StrEnum):
    """What a key may be used for."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request comes from.

    Attributes:
        tenant: Whose jobs they see.
        scopes: What they may do.
        key_id: The key that they have shown; None where none is asked for.
    """

    tenant: str
    scopes: frozenset[Scope]
    key_id: str | None = None

    def may(self, scope: Scope) -> bool:
        """Whether they may do what a scope stands for; who administrates may do everything."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    @property
    def sees(self) -> str | None:
        """The tenant whose jobs they see; None is everyone's."""
        return None if Scope.ADMIN in self.scopes else self.tenant


LOCAL = Caller(LOCAL_TENANT, frozenset(Scope))
