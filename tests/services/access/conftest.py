"""Fixtures of the tests of access: a service that requires keys, and keys of two tenants."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from services.access.caller import Scope
from services.service import Service
from services.settings import load_settings
from tests.services.conftest import serving

ALL = (Scope.READ, Scope.SUBMIT)


@dataclass(frozen=True)
class Locked:
    """Service that requires keys, with its address."""

    service: Service
    url: str

    def key(self, tenant: str = "ours", *scopes: Scope) -> str:
        """Create a key."""
        return self.service.keys.create(tenant, scopes or ALL)[1]

    def client(self, tenant: str = "ours", *scopes: Scope) -> httpx.Client:
        """Make a client with a new key."""
        return self.with_key(self.key(tenant, *scopes))

    def with_key(self, key: str) -> httpx.Client:
        """Make a client with this key."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {key}"}, timeout=60)


@pytest.fixture
def make_locked(tmp_path: Path) -> Iterator[Callable[..., Locked]]:
    """``make_locked(**settings)`` makes such a service; by default requests may read every place."""
    opened = []

    def make(**settings: object) -> Locked:
        given = {
            "storage": str(tmp_path / f"storage-{len(opened)}"),
            "ray_address": "http://127.0.0.1:9",
            "insecure_local": False,
            "allowed_roots": ["/"],
        }
        service = Service(load_settings(**given | settings))
        context = serving(service)
        opened.append((context, service))
        return Locked(service, context.__enter__().server)

    yield make
    for context, service in opened:
        context.__exit__(None, None, None)
        service.close()


@pytest.fixture
def locked(make_locked: Callable[..., Locked]) -> Locked:
    return make_locked()
