"""Errors as ``application/problem+json`` (RFC 9457): a code for programs, cause and remedy for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

from services.access.quotas import QuotaExceededError
from services.api.schemas import ErrorEntry, Problem
from services.jobs.batches import UnknownBatchError
from services.jobs.driver_log import NoLogError
from services.jobs.ray_jobs import RayUnreachableError
from services.jobs.rows import StoppingError, TransitionError, UnknownJobError
from services.jobs.store import KeyReusedError
from workloads.spec.errors import FieldError, InputError
from workloads.spec.parsing import MOST, findings_of, no_object
from workloads.storage.masking import mask_all

MEDIA_TYPE = "application/problem+json"
UNAVAILABLE_SECONDS = 5
"""``Retry-After`` of a 503, in seconds."""
QUOTA_SECONDS = 60
"""``Retry-After`` where a quota may have room later, in seconds."""

log = structlog.get_logger(__name__)
_NO_BODY = object()


class ProblemCode(StrEnum):
    """Stable code of a problem; titles and details may change."""

    INVALID_REQUEST = "invalid_request"
    INVALID_PARAMETER = "invalid_parameter"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    CONFLICT = "conflict"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    RANGE_NOT_SATISFIABLE = "range_not_satisfiable"
    RATE_LIMITED = "rate_limited"
    QUOTA_EXCEEDED = "quota_exceeded"
    STOPPING = "stopping"
    STORAGE_UNAVAILABLE = "storage_unavailable"
    DATABASE_UNAVAILABLE = "database_unavailable"
    RAY_UNAVAILABLE = "ray_unavailable"
    INTERNAL = "internal"
    OTHER = "other"


_CODES = {
    401: ProblemCode.UNAUTHORIZED,
    403: ProblemCode.FORBIDDEN,
    404: ProblemCode.NOT_FOUND,
    405: ProblemCode.METHOD_NOT_ALLOWED,
    409: ProblemCode.CONFLICT,
    413: ProblemCode.BODY_TOO_LARGE,
    415: ProblemCode.UNSUPPORTED_MEDIA_TYPE,
    416: ProblemCode.RANGE_NOT_SATISFIABLE,
    422: ProblemCode.INVALID_PARAMETER,
    429: ProblemCode.RATE_LIMITED,
}

RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem, "description": "The request is refused."},
    "5XX": {"model": Problem, "description": "The service is at fault, or cannot answer now."},
}


def problem_response(
    status: int,
    code: ProblemCode,
    detail: str,
    errors: Sequence[ErrorEntry] = (),
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """Build the answer."""
    problem = Problem(code=code, title=HTTPStatus(status).phrase, status=status, detail=detail, errors=list(errors))
    return JSONResponse(mask_all(problem.model_dump()), status_code=status, media_type=MEDIA_TYPE, headers=headers)


def unexpected_response() -> JSONResponse:
    """Build the answer to an internal error; its cause is only logged."""
    return problem_response(
        500, ProblemCode.INTERNAL, "An internal error occurred. The log of the service has its cause."
    )


def add_problem_handlers(app: FastAPI) -> None:
    """Register handlers that answer all expected errors as problems."""

    @app.exception_handler(InputError)
    def _input(request: Request, error: InputError) -> JSONResponse:
        return _invalid(ProblemCode.INVALID_REQUEST, [_entry(request, finding) for finding in error.errors])

    @app.exception_handler(RequestValidationError)
    def _not_as_described(request: Request, error: RequestValidationError) -> JSONResponse:
        items = [dict(item) for item in error.errors()]
        of_body = [{**item, "loc": item["loc"][1:]} for item in items if item["loc"][0] == "body"]
        entries = [_parameter_entry(item) for item in items if item["loc"][0] != "body"]
        entries += [_entry(request, finding) for finding in _body_findings(request, of_body)]
        return _invalid(ProblemCode.INVALID_REQUEST if of_body else ProblemCode.INVALID_PARAMETER, entries)

    @app.exception_handler(UnknownJobError)
    def _unknown(_request: Request, error: UnknownJobError) -> JSONResponse:
        return problem_response(404, ProblemCode.NOT_FOUND, f"There is no {error.kind} {error}.")

    @app.exception_handler(UnknownBatchError)
    def _unknown_batch(_request: Request, error: UnknownBatchError) -> JSONResponse:
        return problem_response(404, ProblemCode.NOT_FOUND, f"There is no batch {error}.")

    @app.exception_handler(NoLogError)
    def _no_log(_request: Request, error: NoLogError) -> JSONResponse:
        return problem_response(404, ProblemCode.NOT_FOUND, str(error))

    @app.exception_handler(KeyReusedError)
    def _reused(_request: Request, error: KeyReusedError) -> JSONResponse:
        return problem_response(422, ProblemCode.IDEMPOTENCY_KEY_REUSED, str(error))

    @app.exception_handler(QuotaExceededError)
    def _quota(_request: Request, error: QuotaExceededError) -> JSONResponse:
        headers = {"Retry-After": str(QUOTA_SECONDS)} if error.passes else None
        return problem_response(429, ProblemCode.QUOTA_EXCEEDED, str(error), headers=headers)

    @app.exception_handler(TransitionError)
    def _conflict(_request: Request, error: TransitionError) -> JSONResponse:
        return problem_response(409, ProblemCode.CONFLICT, str(error))

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> JSONResponse:
        code, detail, headers = _CODES.get(error.status_code, ProblemCode.OTHER), str(error.detail), error.headers or {}
        if detail == HTTPStatus.NOT_FOUND.phrase:  # the router's, of a path that no route has
            path = request.url.path
            detail = f"There is nothing at {path}.{' Leave out the slash at its end.' if path.endswith('/') else ''}"
        elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers = {"Allow": ", ".join(methods_of(request))}
            detail = f"{request.url.path} does not take {request.method}. Use {headers['Allow']}."
        return problem_response(error.status_code, code, detail, headers=dict(headers))

    @app.exception_handler(StoppingError)
    def _stopping(_request: Request, error: StoppingError) -> JSONResponse:
        return _unavailable(ProblemCode.STOPPING, str(error))

    @app.exception_handler(OSError)
    def _storage(request: Request, error: OSError) -> JSONResponse:
        log.error("storage_failed", path=request.url.path, error=str(error))
        return _unavailable(ProblemCode.STORAGE_UNAVAILABLE, f"The storage does not answer: {error}.")

    @app.exception_handler(RayUnreachableError)
    def _ray(_request: Request, error: RayUnreachableError) -> JSONResponse:
        return _unavailable(ProblemCode.RAY_UNAVAILABLE, str(error))

    @app.exception_handler(OperationalError)
    def _database(request: Request, error: OperationalError) -> JSONResponse:
        log.error("database_failed", path=request.url.path, error=str(error.orig))
        return _unavailable(ProblemCode.DATABASE_UNAVAILABLE, f"The database does not answer: {error.orig}.")


def methods_of(request: Request) -> list[str]:
    """The methods of the first path template that a request's path fits, over all routes of that template."""
    scope = {"type": "http", "path": request.url.path, "headers": [], "root_path": "", "method": request.method}
    fitting = [route for route in _single_routes(request.app.routes) if route.matches(scope)[0] is not Match.NONE]
    same = [route for route in fitting if getattr(route, "path", None) == getattr(fitting[0], "path", None)]
    taken = {method for route in same for method in getattr(route, "methods", None) or ()}
    found = [method for method in ("GET", "POST", "PUT", "PATCH", "DELETE") if method in taken]
    return ["HEAD", *found] if "GET" in found else found


def _single_routes(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """The routes, those of included routers in the place of these; our routers are included without a prefix."""
    for route in routes:
        router = getattr(route, "original_router", None)
        if router is None:
            yield route
        else:
            yield from _single_routes(router.routes)


def _invalid(code: ProblemCode, entries: Sequence[ErrorEntry]) -> JSONResponse:
    entries = entries[:MOST]
    detail = "; ".join(f"{one.field}: {one.problem} {one.remedy}" for one in entries)
    return problem_response(422, code, detail, entries)


_FORMS = {
    "label": "name:value, such as team:search",
    "after": "what an earlier answer gave to go on from",
    "last-event-id": "attempt-sequence, such as 1-12",
}
"""Parameters that have a pattern in the document, and what the pattern says, in words."""


def _parameter_entry(item: dict[str, Any]) -> ErrorEntry:
    names = [str(part) for part in item["loc"][1:]]
    form = _FORMS.get(names[0].lower()) if item["type"] == "string_pattern_mismatch" else None
    problem = f"{item['msg']}." if form is None else f"'{names[0]}' must be {form}."
    return ErrorEntry(field=".".join(names), problem=problem, remedy="Correct the parameter.")


def _body_findings(request: Request, items: list[dict[str, Any]]) -> list[FieldError]:
    model = _body_model(request)
    if any(not item["loc"] and not isinstance(item.get("ctx", {}).get("error"), Exception) for item in items):
        required = [name for name, field in model.model_fields.items() if field.is_required()]
        return [no_object(f"Send a JSON object with {' and '.join(required)}.")]
    return findings_of(items, model)


def _body_model(request: Request) -> type[BaseModel]:
    """The model of the body that a request's route takes; an empty one where it takes none."""
    field = getattr(request.scope.get("route"), "body_field", None)
    model = None if field is None else field.field_info.annotation
    return model if isinstance(model, type) and issubclass(model, BaseModel) else BaseModel


def _entry(request: Request, finding: FieldError) -> ErrorEntry:
    pointer = _pointer(finding.parts, getattr(request.state, "body", _NO_BODY), _body_model(request))
    return ErrorEntry(field=finding.field, pointer=pointer, problem=finding.problem, remedy=finding.remedy)


def _pointer(parts: Sequence[str], body: Any, model: type[BaseModel]) -> str | None:
    """The JSON pointer (RFC 6901) to a field of the body, or to where it is missing; None if it is none of the body's.

    Args:
        parts: Names and indices that lead to the field.
        body: The body as sent.
        model: Model of the body, with its possible names.
    """
    if body is _NO_BODY:
        return None
    names = {*model.model_fields, *(body if isinstance(body, dict) else ())}
    if isinstance(body, dict) and parts and parts[0] not in names:
        return None
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)


def _unavailable(code: ProblemCode, detail: str) -> JSONResponse:
    return problem_response(503, code, detail, headers={"Retry-After": str(UNAVAILABLE_SECONDS)})
