"""Routes of compressions. Plain functions: FastAPI runs them in threads, so none holds up the others."""

from __future__ import annotations

import math
import mimetypes
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response

from services.api.conditional import UNCHANGED, document_response
from services.api.dependencies import (
    JSON_TYPES,
    YAML_TYPES,
    AnyJobDep,
    BodyDep,
    CallerDep,
    JobDep,
    LabelsDep,
    RequestKeyDep,
    ServiceDep,
)
from services.api.event_stream import STREAM_RESPONSES
from services.api.events import EventsDep
from services.api.openapi import reference_to
from services.api.problems import RESPONSES
from services.api.schemas import EventPage, JobPage
from services.jobs.documents import JobDocument
from services.jobs.records import Job
from services.jobs.states import JobStatus
from services.jobs.store import MAX_PAGE
from services.service import Service
from workloads.request import CompressionRequest

PREFIX = "/v1/compressions"
router = APIRouter(prefix=PREFIX, tags=["compressions"], responses=RESPONSES)

COMPRESSION_BODY = {kind: {"schema": reference_to(CompressionRequest)} for kind in sorted(JSON_TYPES | YAML_TYPES)}


def accepted(response: Response, service: Service, job: Job) -> None:
    """Say where a job can be followed, and when to look first."""
    paths = {
        "compression": PREFIX,
        "selection": f"{PREFIX}/{job.parent}/selections",
        "plan": f"{PREFIX}/plans",
        "evaluation": "/v1/evaluations",
    }
    response.headers["Location"] = f"{paths[job.kind]}/{job.id}"
    response.headers["Retry-After"] = str(max(1, math.ceil(service.settings.poll_seconds)))


@router.post("", status_code=202, openapi_extra={"requestBody": {"required": True, "content": COMPRESSION_BODY}})
def submit(
    body: BodyDep, key: RequestKeyDep, caller: CallerDep, service: ServiceDep, response: Response
) -> JobDocument:
    """Queue a compression."""
    job = service.submit(body, key, caller=caller)
    accepted(response, service, job)
    return service.document(job)


@router.get("")
def page(
    caller: CallerDep,
    service: ServiceDep,
    labels: LabelsDep,
    status: JobStatus | None = None,
    batch: Annotated[str | None, Query(description="Those of this batch.")] = None,
    teacher: Annotated[str | None, Query(description="The teacher's model, as the request names it.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    after: str | None = None,
) -> JobPage:
    """List compressions, newest first."""
    jobs = service.store.page(
        tenant=caller.sees,
        batch=batch,
        status=status,
        teacher=teacher,
        labels=labels,
        limit=limit + 1,
        after=after,
    )
    following = jobs[limit - 1].id if len(jobs) > limit else None
    return JobPage(compressions=[service.document(job) for job in jobs[:limit]], next=following)


@router.get("/{job_id}", response_model=JobDocument, responses=UNCHANGED)
def read(job_id: str, caller: CallerDep, service: ServiceDep, request: Request) -> Response:
    """Show one compression."""
    # Not by JobDep: what is asked for most is read in one thread, at once.
    job = service.store.get(job_id, "compression", tenant=caller.sees)
    return document_response(request, service.document(job))


@router.get("/{job_id}/events", response_model=EventPage, responses=STREAM_RESPONSES)
def events(job: JobDep, found: EventsDep) -> EventPage | Response:
    """List what happened, over all attempts; with `Accept: text/event-stream` as it happens."""
    return found.of(job)


@router.post("/{job_id}/cancel", status_code=202)
def cancel(job: AnyJobDep, service: ServiceDep, response: Response) -> JobDocument:
    """Ask for the end of a compression; asking again changes nothing."""
    cancelled = service.cancel(job.id)
    accepted(response, service, cancelled)
    return service.document(cancelled)


@router.post("/{job_id}/resume", status_code=202)
def resume(job: JobDep, service: ServiceDep, response: Response) -> JobDocument:
    """Queue a failed or cancelled compression again; what it has finished is not done again."""
    resumed = service.resume(job.id)
    accepted(response, service, resumed)
    return service.document(resumed)


@router.delete("/{job_id}", status_code=204)
def delete(job: JobDep, service: ServiceDep) -> None:
    """Forget an ended compression, its selections and evaluations, with their folders; artefacts stay for others."""
    service.delete(job.id)


@router.get("/{job_id}/pictures/{name}", response_class=Response)
def picture(name: str, job: JobDep, service: ServiceDep) -> Response:
    """Fetch a picture of the result, such as `frontier.png` or `frontier.svg`."""
    pictures = job.result.pictures if job.result else {}
    if name not in pictures:
        raise HTTPException(404, f"{job.id} is {job.status} and has no picture {name!r}.")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    # An SVG may hold scripts; ours do not, and a browser is told to run none.
    headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
    return Response(service.storage.read_bytes(pictures[name]), media_type=kind, headers=headers)
