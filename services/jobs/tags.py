"""Tags: what lists are filtered by, as digests that are looked up by an index, however long a label or a path is.

A tag names the kind and the tenant too, so that a look-up meets no others; administrators, who see all tenants, look
up a second one that names none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

Filter = tuple[str, str]
"""Name and value of a filter, such as ``("teacher", "google/bert")``; the name of a label is ``label:<name>``."""


def digest_of(kind: str, tenant: str | None, wanted: Filter) -> str:
    """The digest of a tag; that of all tenants where none is given."""
    text = json.dumps([kind, tenant, *wanted])  # keeps to ASCII, whatever an old row holds
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def digests(kind: str, tenant: str, filters: Iterator[Filter]) -> list[str]:
    """The digests of a row: of each filter that finds it, for its tenant and for administrators."""
    return [digest_of(kind, whose, one) for one in dict.fromkeys(filters) for whose in (tenant, None)]


def labels(given: Mapping[str, str]) -> list[Filter]:
    """The filters that find a thing with these labels."""
    return [(f"label:{name}", str(value)) for name, value in given.items()]


def filters_of(request: Mapping[str, Any], batch: str | None, parent: str | None) -> Iterator[Filter]:
    """The filters that find a job; what a request of an older version lacks is left out."""
    yield from labels(_part(request, "labels"))
    teacher, model = _part(request, "teacher").get("model"), _part(request, "model")
    for name, value in (("teacher", teacher), ("student", model.get("student")), ("batch", batch), ("parent", parent)):
        if isinstance(value, str):
            yield name, value


def _part(request: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = request.get(name)
    return found if isinstance(found, dict) else {}
