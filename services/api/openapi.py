"""The OpenAPI document: what FastAPI gives, with the bodies that routes read by themselves and problems as they are.

``python -m services.api.openapi docs/openapi.json`` writes the committed one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from services.api.problems import MEDIA_TYPE
from services.api.schemas import SelectionRequest
from services.jobs.batch_requests import BatchRequest
from workloads.spec.evaluation import EvaluationRequest
from workloads.spec.request import CompressionRequest

_PLACE = "#/components/schemas/"


def reference_to(model: type[BaseModel]) -> dict[str, str]:
    """The schema of a body that a route reads by itself."""
    return {"$ref": f"{_PLACE}{model.__name__}"}


def describe(app: FastAPI) -> dict[str, Any]:
    """Give the document of an application, made once."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        schemas = document["components"]["schemas"]
        schemas |= _body_schemas(schemas)
        document["components"]["schemas"] = dict(sorted(schemas.items()))
        for path in document["paths"].values():
            for operation in path.values():
                for response in operation["responses"].values():
                    _as_problem(response.get("content", {}))
        app.openapi_schema = document
    return app.openapi_schema


def _body_schemas(taken: dict[str, Any]) -> dict[str, Any]:
    """The schemas of those bodies; one that answers know in another form gets a name of its own, as FastAPI does."""
    bodies = (CompressionRequest, SelectionRequest, BatchRequest, EvaluationRequest)
    models = [(body, "validation") for body in bodies]
    _, definitions = models_json_schema(models, ref_template=_PLACE + "{model}")  # type: ignore[arg-type]
    found = definitions["$defs"]
    text = json.dumps(found)
    renamed = {name: f"{name}-Input" for name, schema in found.items() if taken.get(name, schema) != schema}
    for name, other in renamed.items():
        text = text.replace(f'"{_PLACE}{name}"', f'"{_PLACE}{other}"')
    return {renamed.get(name, name): schema for name, schema in json.loads(text).items()}


def _as_problem(content: dict[str, Any]) -> None:
    if content.get("application/json", {}).get("schema") == {"$ref": f"{_PLACE}Problem"}:
        content[MEDIA_TYPE] = content.pop("application/json")


def main(file: Path) -> None:
    """Write the document."""
    from services.api.app import bare_app

    file.write_text(json.dumps(bare_app().openapi(), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
