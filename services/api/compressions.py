"""Routes of compressions. Plain functions: FastAPI runs them in threads, so none holds up the others."""

from __future__ import annotations

import math
import mimetypes
import re
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse

from services.api.conditional import UNCHANGED, document_response
from services.api.dependencies import (
    JSON_TYPES,
    YAML_TYPES,
    AnyJobDep,
    BodyDep,
    CallerDep,
    EventStreamsDep,
    JobDep,
    LabelsDep,
    RequestKeyDep,
    ServiceDep,
    StillWelcomeDep,
)
from services.api.event_stream import HEADERS, MEDIA_TYPE, STREAM_RESPONSES, wants_stream
from services.api.openapi import reference_to
from services.api.problems import RESPONSES
from services.api.schemas import EventPage, JobPage
from services.jobs.documents import JobDocument, job_events
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
def events(
    job: JobDep,
    service: ServiceDep,
    streams: EventStreamsDep,
    welcome: StillWelcomeDep,
    accept: Annotated[str, Header()] = "",
    last_event_id: Annotated[str | None, Header(description="As `after`, and before it.")] = None,
    after: Annotated[str, Query(description="`<attempt>-<sequence>`.")] = "0-0",
) -> EventPage | Response:
    """List what happened, over all attempts; with `Accept: text/event-stream` as it happens."""
    given = last_event_id or after
    match = re.fullmatch(r"(\d{1,9})-(\d{1,9})", given)
    if match is None:
        raise HTTPException(422, f"{given!r} is no event. Give the 'next' of an earlier answer, such as 1-12.")
    start = int(match[1]), int(match[2])
    if not wants_stream(accept):
        found = job_events(job, service.storage, start)
        return EventPage(events=found, next=f"{found[-1].attempt}-{found[-1].sequence}" if found else given)
    if last_event_id and job.status.is_terminal and not job_events(job, service.storage, start):
        return Response(status_code=204)  # tells a browser to come back no more
    return StreamingResponse(streams.stream(job.id, start, welcome), media_type=MEDIA_TYPE, headers=HEADERS)


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
    """Forget an ended compression, its selections and their folders; artefacts stay for others to use."""
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
