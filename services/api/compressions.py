"""Routes of compressions."""

from __future__ import annotations

import mimetypes
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Response

from services.api.bodies import JsonRoute, RequestKeyDep
from services.api.dependencies import CallerDep, JobDep, LabelsDep, ServiceDep
from services.api.jobs import PATHS, accepted, add_job_routes, followed
from services.api.paging import PagingDep
from services.api.problems import RESPONSES
from services.api.schemas import JobPage
from services.intake.compression import teacher_names
from services.jobs.documents import JobDocument, compression_summary
from services.jobs.records import JobFilter
from services.jobs.states import JobStatus
from services.service import Service
from workloads.spec.request import CompressionRequest

PREFIX = PATHS["compression"]
router = APIRouter(prefix=PREFIX, tags=["compressions"], responses=RESPONSES, route_class=JsonRoute)


@router.post("", status_code=202, responses=followed(202))
def submit(
    body: CompressionRequest, key: RequestKeyDep, caller: CallerDep, service: ServiceDep, response: Response
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
    paging: PagingDep,
    status: JobStatus | None = None,
    batch: Annotated[str | None, Query(description="Only compressions of this batch.")] = None,
    teacher: Annotated[str | None, Query(description="The teacher's model as in the request.")] = None,
) -> JobPage:
    """List compressions, newest first."""
    wanted = JobFilter(
        tenant=caller.sees,
        batch=batch,
        status=status,
        teachers=() if teacher is None else teacher_names(teacher),
        labels=labels,
    )
    jobs = service.store.summaries(wanted, limit=paging.wanted, before=paging.before)
    found, following = paging.cut(jobs)
    return JobPage(compressions=[compression_summary(job, service.storage) for job in found], next=following)


add_job_routes(router, "compression", JobDocument, Service.document)


@router.get("/{job_id}/pictures/{name}", response_class=Response)
def picture(name: str, job: JobDep, service: ServiceDep) -> Response:
    """Fetch a picture of the result, such as `frontier.png` or `frontier.svg`."""
    pictures = job.result.pictures if job.result else {}
    if name not in pictures:
        raise HTTPException(404, f"{job.id} is {job.status} and has no picture {name!r}.")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    # An SVG may contain scripts. Ours contain none; the header makes browsers run none in any case.
    headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
    return Response(service.storage.read_bytes(pictures[name]), media_type=kind, headers=headers)
