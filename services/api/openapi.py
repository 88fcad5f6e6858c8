"""The OpenAPI document: FastAPI's, with errors as problem documents.

``python -m services.api docs/openapi.json`` writes the committed one.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.api.bodies import MAX_BODY_BYTES
from services.api.bodies import MEDIA_TYPE as BODY_TYPE
from services.api.problems import MEDIA_TYPE

_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_OF_A_BODY = {
    "413": f"The body is longer than {MAX_BODY_BYTES:,} bytes.",
    "415": f"The body is not sent as {BODY_TYPE}.",
    "422": (
        "A field is wrong. Some rules are in no schema: that fields agree with one another, and that files, "
        "compressions and latency targets are there. `errors` names each field, its problem and the remedy."
    ),
}
"""Refusals of every operation with a body, by status."""


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the document of an application, built once."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        for path in document["paths"].values():
            for operation in path.values():
                if "requestBody" in operation:
                    operation["responses"] |= {status: _refusal(text) for status, text in _OF_A_BODY.items()}
                for response in operation["responses"].values():
                    _as_problem(response.get("content", {}))
        app.openapi_schema = document
    return app.openapi_schema


def _refusal(description: str) -> dict[str, Any]:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": _PROBLEM}}}


def _as_problem(content: dict[str, Any]) -> None:
    for media_type in list(content):  # that of the route's own answers, whatever it is
        if content[media_type].get("schema") == _PROBLEM:
            content[MEDIA_TYPE] = content.pop(media_type)
