"""Routes of all kinds of jobs: show, follow, cancel, resume and delete.

The routes are plain functions, which FastAPI runs in threads, so that none blocks the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from services.api.conditional import UNCHANGED, document_response
from services.api.dependencies import CallerDep, ServiceDep, id_of, job_of
from services.api.event_stream import STREAM_RESPONSES
from services.api.events import EventsDep
from services.api.schemas import EventPage
from services.jobs.driver_log import MOST_CHARACTERS
from services.jobs.records import Job
from services.service import Service
from workloads.documents.job_folder import JobKind

PATHS: dict[JobKind, str] = {
    "compression": "/v1/compressions",
    "selection": "/v1/selections",
    "plan": "/v1/plans",
    "evaluation": "/v1/evaluations",
}
_DELETED_TOO: dict[JobKind, str] = {
    "compression": ", its selections and its evaluations, with their folders",
    "plan": "; its compressions no longer show its estimates",
}
DEFAULT_LINES = 200
AttemptQuery = Annotated[
    int | None, Query(ge=1, le=1_000_000, description="Number of the attempt; default: the latest.")
]
LinesQuery = Annotated[
    int, Query(ge=1, le=2000, description=f"Most lines; the text is also cut to {MOST_CHARACTERS:,} characters.")
]
_Document = TypeVar("_Document", bound=BaseModel)


def followed(status: int) -> dict[int | str, dict[str, Any]]:
    """Describe the headers ``Location`` and ``Retry-After`` of an answer, for the OpenAPI document."""
    location = {"description": "Path of the job or batch.", "schema": {"type": "string"}}
    retry = {"description": "Seconds until the first poll.", "schema": {"type": "integer"}}
    return {status: {"headers": {"Location": location, "Retry-After": retry}}}


def follow(response: Response, service: Service, place: str) -> None:
    """Set the headers with the path to follow and the time until the first poll."""
    response.headers["Location"] = place
    response.headers["Retry-After"] = str(max(1, math.ceil(service.settings.poll_seconds)))


def accepted(response: Response, service: Service, job: Job) -> None:
    """Set the headers with a job's path and the time until the first poll."""
    follow(response, service, f"{PATHS[job.kind]}/{job.id}")


def add_job_routes(
    router: APIRouter, kind: JobKind, model: type[_Document], document: Callable[[Service, Job], _Document]
) -> None:
    """Add the routes of single jobs of a kind, below its path; ids of other kinds are not found there.

    Args:
        router: The router; its prefix is the kind's path or empty.
        kind: The kind of job.
        model: Model of its document.
        document: Builds the document of a job.
    """
    name, article = id_of(kind), "an" if kind == "evaluation" else "a"
    place = f"{PATHS[kind].removeprefix(router.prefix)}/{{{name}}}"
    wanted, by_id = Depends(job_of(kind)), Path(alias=name)

    @router.get(place, response_model=model, responses=UNCHANGED, description=f"Show {article} {kind}.")
    def read(caller: CallerDep, service: ServiceDep, request: Request, job_id: str = by_id) -> Response:
        # Most frequent route: reading the job here needs one thread hop, the dependency `wanted` another.
        job = service.store.get(job_id, kind, tenant=caller.sees)
        return document_response(request, document(service, job))

    @router.get(
        f"{place}/events",
        response_model=EventPage,
        responses=STREAM_RESPONSES,
        description="List the events of all attempts; with `Accept: text/event-stream`, stream them as they happen.",
    )
    def events(found: EventsDep, job: Job = wanted) -> EventPage | Response:
        return found.of(job)

    @router.get(
        f"{place}/log",
        response_class=PlainTextResponse,
        description=f"Show the last lines of the log of an attempt of {article} {kind}; secrets are masked.",
    )
    def log(
        service: ServiceDep, job: Job = wanted, attempt: AttemptQuery = None, lines: LinesQuery = DEFAULT_LINES
    ) -> PlainTextResponse:
        return PlainTextResponse(service.log_of(job, attempt, lines), headers={"Cache-Control": "no-store"})

    @router.post(
        f"{place}/cancel",
        status_code=202,
        response_model=model,
        responses=followed(202),
        description=f"Cancel {article} {kind}; finished steps are kept. Repeating it changes nothing.",
    )
    def cancel(service: ServiceDep, response: Response, job: Job = wanted) -> _Document:
        cancelled = service.cancel(job.id)
        accepted(response, service, cancelled)
        return document(service, cancelled)

    @router.post(
        f"{place}/resume",
        status_code=202,
        response_model=model,
        responses=followed(202),
        description=f"Queue a failed or cancelled {kind} again; finished steps are not repeated.",
    )
    def resume(service: ServiceDep, response: Response, job: Job = wanted) -> _Document:
        resumed = service.resume(job.id)
        accepted(response, service, resumed)
        return document(service, resumed)

    @router.delete(
        place,
        status_code=204,
        description=f"Delete an ended {kind}{_DELETED_TOO.get(kind, '')}; artefacts stay until they are pruned.",
    )
    def delete(service: ServiceDep, job: Job = wanted) -> None:
        service.delete(job.id)
