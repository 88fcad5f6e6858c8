"""Tags: digests of the filters of lists, so that an index finds labels and paths of any length.

A tag also covers the kind and the tenant, so that a look-up meets only these. For administrators, who see all
tenants, a row has a second tag without a tenant.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

Filter = tuple[str, str]
"""Name and value of a filter, such as ``("teacher", "google/bert")``; the name of a label is ``label:<name>``."""


def digest_of(kind: str, tenant: str | None, wanted: Filter) -> str:
    """Compute the digest of a tag; without a tenant, that for administrators."""
    text = json.dumps([kind, tenant, *wanted])  # ASCII, so any text of an old row can be encoded
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def digests(kind: str, tenant: str, filters: Iterator[Filter]) -> list[str]:
    """Compute a row's digests: of each filter that finds it, for its tenant and for administrators."""
    return [digest_of(kind, whose, one) for one in dict.fromkeys(filters) for whose in (tenant, None)]


def labels(given: Mapping[str, str]) -> list[Filter]:
    """Return the filters that find a row with these labels."""
    return [(f"label:{name}", str(value)) for name, value in given.items()]


def filters_of(request: Mapping[str, Any], batch: str | None, parent: str | None) -> Iterator[Filter]:
    """Yield the filters that find a job; fields that an older version's request lacks are left out."""
    yield from labels(_part(request, "labels"))
    teacher, model = _part(request, "teacher").get("model"), _part(request, "model")
    for name, value in (("teacher", teacher), ("student", model.get("student")), ("batch", batch), ("parent", parent)):
        if isinstance(value, str):
            yield name, value


def _part(request: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = request.get(name)
    return found if isinstance(found, dict) else {}
