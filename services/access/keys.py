"""API keys: creation, check and revocation. The database has a digest of each secret, never the secret.

The form of a key is ``srk_<id>_<secret>``: the id finds the row, the secret proves the key. The secret is long and
random, so a fast digest is enough; a password chosen by a person would need a slow one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Engine, or_, select, update
from sqlalchemy.exc import OperationalError

from services.access.caller import Caller, Scope
from services.access.tenants import ensure_tenant
from services.jobs.rows import Sessions, now
from services.jobs.tables import ApiKeyRow

KEEP_SECONDS = 3.0
"""How long a check is cached; a revoked key is refused by every service after this time at the latest."""
USED_EVERY = timedelta(minutes=1)
"""Resolution of ``last_used_at``."""
_KEPT = 4096
_SHAPE = re.compile(r"srk_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")
_NO_DIGEST = hashlib.sha256(secrets.token_bytes()).hexdigest()

log = structlog.get_logger(__name__)


class UnknownKeyError(LookupError):
    """No key has that id."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret.

    Attributes:
        name: A name for people.
        last_used_at: To the minute.
    """

    id: str
    tenant: str
    name: str
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    @property
    def state(self) -> str:
        """The key's state: ``active``, ``revoked`` or ``expired``."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now() else "active"


class KeyStore:
    """Store of the keys in a database.

    Args:
        engine: From :func:`services.jobs.database.open_database`, migrated.
    """

    def __init__(self, engine: Engine) -> None:
        self._sessions = Sessions(engine)

    def create(
        self, tenant: str, scopes: Collection[Scope], *, name: str = "", expires_at: datetime | None = None
    ) -> tuple[ApiKey, str]:
        """Create a key, and its tenant if that does not exist.

        Returns:
            The key, and its full text, which cannot be read again.
        """
        secret = secrets.token_urlsafe(32)
        with self._sessions.writing() as session:
            ensure_tenant(session, tenant)
            key_id = secrets.token_hex(4)
            while session.get(ApiKeyRow, key_id) is not None:
                key_id = secrets.token_hex(4)
            row = ApiKeyRow(
                id=key_id,
                tenant=tenant,
                name=name,
                scopes=sorted(scopes),
                digest=_digest(secret),
                created_at=now(),
                expires_at=expires_at,
            )
            session.add(row)
            session.flush()
            return _key_of(row), f"srk_{key_id}_{secret}"

    def all(self, tenant: str | None = None) -> list[ApiKey]:
        """List all keys, or a tenant's, oldest first."""
        query = select(ApiKeyRow).order_by(ApiKeyRow.created_at, ApiKeyRow.id)
        with self._sessions.reading() as session:
            rows = session.scalars(query if tenant is None else query.where(ApiKeyRow.tenant == tenant))
            return [_key_of(row) for row in rows]

    def revoke(self, key_id: str) -> ApiKey:
        """Revoke a key; revoking it again changes nothing.

        Raises:
            UnknownKeyError: No key has that id.
        """
        with self._sessions.writing() as session:
            row = session.get(ApiKeyRow, key_id, with_for_update=True)
            if row is None:
                raise UnknownKeyError(key_id)
            row.revoked_at = row.revoked_at or now()
            return _key_of(row)

    def check(self, text: str) -> ApiKey | None:
        """Return the active key with this text; None for any other text, whatever the reason."""
        match = _SHAPE.fullmatch(text)
        if match is None:
            return None
        with self._sessions.reading() as session:
            row = session.get(ApiKeyRow, match[1])
            # Compare for unknown ids too, so that the time does not reveal whether an id exists.
            proven = hmac.compare_digest(_digest(match[2]), row.digest if row is not None else _NO_DIGEST)
            if row is None or not proven:
                return None
            key = _key_of(row)
        if key.state != "active":
            return None
        if key.last_used_at is None or key.last_used_at <= now() - USED_EVERY:
            self._note_use(key.id)
        return key

    def _note_use(self, key_id: str) -> None:
        used = or_(ApiKeyRow.last_used_at.is_(None), ApiKeyRow.last_used_at <= now() - USED_EVERY)
        try:
            with self._sessions.writing() as session:
                session.execute(update(ApiKeyRow).where(ApiKeyRow.id == key_id, used).values(last_used_at=now()))
        except OperationalError as error:  # a full disk must not prevent reading
            log.warning("key_use_not_noted", key=key_id, error=str(error.orig))


class KeyChecks:
    """Cache of checked keys, so that each key is looked up in the database once in a few seconds.

    Only accepted keys are cached, so that made-up keys cannot evict them.

    Args:
        store: The keys.
        keep_seconds: Seconds that a check is cached.
        clock: Monotonic seconds.
    """

    def __init__(
        self, store: KeyStore, keep_seconds: float = KEEP_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._keep_seconds = keep_seconds
        self._clock = clock
        self._lock = threading.Lock()
        # Keyed by digest: no secret stays in memory, and the look-up time does not depend on how close a guess is.
        self._answers: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()

    def remembered(self, text: str) -> Caller | None:
        """Return the cached caller for this text; None if the database must be asked."""
        with self._lock:
            found = self._answers.get(hashlib.sha256(text.encode()).digest())
        return found[1] if found is not None and found[0] > self._clock() else None

    def was_accepted(self, text: str) -> bool:
        """Whether this text was accepted when it was last checked."""
        with self._lock:
            return hashlib.sha256(text.encode()).digest() in self._answers

    def check(self, text: str) -> Caller | None:
        """Return the caller for this text, from the cache or the database; None if it is refused."""
        remembered = self.remembered(text)
        if remembered is not None:
            return remembered
        until = self._clock() + self._keep_seconds  # counts from before the query
        key, digest = self._store.check(text), hashlib.sha256(text.encode()).digest()
        if key is None:
            with self._lock:
                self._answers.pop(digest, None)
            return None
        caller = Caller(key.tenant, key.scopes, key.id)
        if key.expires_at is not None:
            until = min(until, self._clock() + (key.expires_at - now()).total_seconds())
        with self._lock:
            self._answers[digest] = until, caller
            self._answers.move_to_end(digest)
            while len(self._answers) > _KEPT:
                self._answers.popitem(last=False)
        return caller


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _key_of(row: ApiKeyRow) -> ApiKey:
    return ApiKey(
        id=row.id,
        tenant=row.tenant,
        name=row.name,
        scopes=frozenset(Scope(scope) for scope in row.scopes),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )
