"""Errors as ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from services.api.schemas import ErrorEntry, Problem
from services.jobs.store import TransitionError, UnknownJobError
from workloads.errors import FieldError, InputError

MEDIA_TYPE = "application/problem+json"

log = structlog.get_logger(__name__)


RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem, "description": "A problem, as application/problem+json."}
}


def problem_response(status: int, detail: str, errors: Sequence[FieldError] = ()) -> JSONResponse:
    """Build the answer."""
    entries = [ErrorEntry(field=error.field, problem=error.problem, remedy=error.remedy) for error in errors]
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, errors=entries)
    return JSONResponse(problem.model_dump(), status_code=status, media_type=MEDIA_TYPE)


def add_problem_handlers(app: FastAPI) -> None:
    """Have every error answered as a problem."""

    @app.exception_handler(InputError)
    def _input(_request: Request, error: InputError) -> JSONResponse:
        return problem_response(422, str(error), error.errors)

    @app.exception_handler(RequestValidationError)
    def _parameters(_request: Request, error: RequestValidationError) -> JSONResponse:
        findings = [
            FieldError(".".join(str(part) for part in item["loc"][1:]), f"{item['msg']}.", "Correct the parameter.")
            for item in error.errors()
        ]
        return problem_response(422, "; ".join(str(finding) for finding in findings), findings)

    @app.exception_handler(UnknownJobError)
    def _unknown(_request: Request, error: UnknownJobError) -> JSONResponse:
        return problem_response(404, f"There is no compression {error}.")

    @app.exception_handler(TransitionError)
    def _conflict(_request: Request, error: TransitionError) -> JSONResponse:
        return problem_response(409, str(error))

    @app.exception_handler(HTTPException)
    def _http(_request: Request, error: HTTPException) -> JSONResponse:
        response = problem_response(error.status_code, str(error.detail))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(OSError)
    def _storage(request: Request, error: OSError) -> JSONResponse:
        log.error("storage_failed", path=request.url.path, error=str(error))
        return problem_response(503, f"The storage does not answer: {error}.")
