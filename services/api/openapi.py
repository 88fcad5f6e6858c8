"""The OpenAPI document: FastAPI's, with errors as problem documents.

``python -m services.api docs/openapi.json`` writes the committed one.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.api.problems import MEDIA_TYPE

_PROBLEM = {"$ref": "#/components/schemas/Problem"}


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the document of an application, built once."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        for path in document["paths"].values():
            for operation in path.values():
                for response in operation["responses"].values():
                    _as_problem(response.get("content", {}))
        app.openapi_schema = document
    return app.openapi_schema


def _as_problem(content: dict[str, Any]) -> None:
    for media_type in list(content):  # that of the route's own answers, whatever it is
        if content[media_type].get("schema") == _PROBLEM:
            content[MEDIA_TYPE] = content.pop(media_type)
