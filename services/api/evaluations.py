"""Routes of evaluations: a student or a teacher, fine-tuned and scored on a labelled task."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from services.api.compressions import accepted
from services.api.conditional import UNCHANGED, document_response
from services.api.dependencies import (
    JSON_TYPES,
    YAML_TYPES,
    BodyDep,
    CallerDep,
    EvaluationDep,
    RequestKeyDep,
    ServiceDep,
)
from services.api.event_stream import STREAM_RESPONSES
from services.api.events import EventsDep
from services.api.openapi import reference_to
from services.api.problems import RESPONSES
from services.api.schemas import EvaluationPage, EventPage
from services.jobs.documents import EvaluationDocument, evaluation_document
from services.jobs.store import MAX_PAGE
from workloads.evaluation_spec import EvaluationRequest

router = APIRouter(prefix="/v1/evaluations", tags=["evaluations"], responses=RESPONSES)

_BODY = {kind: {"schema": reference_to(EvaluationRequest)} for kind in sorted(JSON_TYPES | YAML_TYPES)}


@router.post("", status_code=202, openapi_extra={"requestBody": {"required": True, "content": _BODY}})
def submit(
    body: BodyDep, key: RequestKeyDep, caller: CallerDep, service: ServiceDep, response: Response
) -> EvaluationDocument:
    """Queue an evaluation."""
    job = service.evaluations.submit(body, key, caller=caller)
    accepted(response, service, job)
    return evaluation_document(job, service.storage)


@router.get("")
def page(
    caller: CallerDep,
    service: ServiceDep,
    compression: Annotated[str | None, Query(description="Those of this compression's students.")] = None,
    student: Annotated[str | None, Query(description="Those of this student.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    after: str | None = None,
) -> EvaluationPage:
    """List evaluations, newest first."""
    found = service.evaluations.page(
        tenant=caller.sees, compression=compression, student=student, limit=limit + 1, after=after
    )
    following = found[limit - 1].id if len(found) > limit else None
    return EvaluationPage(
        evaluations=[evaluation_document(job, service.storage) for job in found[:limit]], next=following
    )


@router.get("/{evaluation_id}", response_model=EvaluationDocument, responses=UNCHANGED)
def read(job: EvaluationDep, service: ServiceDep, request: Request) -> Response:
    """Show one evaluation."""
    return document_response(request, evaluation_document(job, service.storage))


@router.get("/{evaluation_id}/events", response_model=EventPage, responses=STREAM_RESPONSES)
def events(job: EvaluationDep, found: EventsDep) -> EventPage | Response:
    """List what happened, over all attempts; with `Accept: text/event-stream` as it happens."""
    return found.of(job)


@router.post("/{evaluation_id}/cancel", status_code=202)
def cancel(job: EvaluationDep, service: ServiceDep, response: Response) -> EvaluationDocument:
    """Ask for the end of an evaluation; seeds that have ended are kept."""
    cancelled = service.cancel(job.id)
    accepted(response, service, cancelled)
    return evaluation_document(cancelled, service.storage)


@router.post("/{evaluation_id}/resume", status_code=202)
def resume(job: EvaluationDep, service: ServiceDep, response: Response) -> EvaluationDocument:
    """Queue a failed or cancelled evaluation again; seeds that have ended are not fine-tuned again."""
    resumed = service.resume(job.id)
    accepted(response, service, resumed)
    return evaluation_document(resumed, service.storage)


@router.delete("/{evaluation_id}", status_code=204)
def delete(job: EvaluationDep, service: ServiceDep) -> None:
    """Forget an ended evaluation; the scores of its seeds stay for others to use."""
    service.delete(job.id)
