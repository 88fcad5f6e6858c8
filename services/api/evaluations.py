"""Routes of evaluations: a student or a teacher, fine-tuned and scored on a labelled task."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from services.api.dependencies import JSON_TYPES, YAML_TYPES, BodyDep, CallerDep, RequestKeyDep, ServiceDep
from services.api.jobs import PATHS, accepted, add_job_routes, followed
from services.api.openapi import reference_to
from services.api.paging import PagingDep
from services.api.problems import RESPONSES
from services.api.schemas import EvaluationPage
from services.jobs.documents import EvaluationDocument, evaluation_document
from services.jobs.records import Job
from services.service import Service
from workloads.spec.evaluation import EvaluationRequest

router = APIRouter(prefix=PATHS["evaluation"], tags=["evaluations"], responses=RESPONSES)

_BODY = {kind: {"schema": reference_to(EvaluationRequest)} for kind in sorted(JSON_TYPES | YAML_TYPES)}


def _document(service: Service, job: Job) -> EvaluationDocument:
    return evaluation_document(job, service.storage)


@router.post(
    "",
    status_code=202,
    responses=followed(202),
    openapi_extra={"requestBody": {"required": True, "content": _BODY}},
)
def submit(
    body: BodyDep, key: RequestKeyDep, caller: CallerDep, service: ServiceDep, response: Response
) -> EvaluationDocument:
    """Queue an evaluation."""
    job = service.evaluations.submit(body, key, caller=caller)
    accepted(response, service, job)
    return _document(service, job)


@router.get("")
def page(
    caller: CallerDep,
    service: ServiceDep,
    paging: PagingDep,
    compression: Annotated[str | None, Query(description="Those of this compression's students.")] = None,
    student: Annotated[str | None, Query(description="Those of this student.")] = None,
) -> EvaluationPage:
    """List evaluations, newest first."""
    found = service.evaluations.page(
        tenant=caller.sees, compression=compression, student=student, limit=paging.wanted, before=paging.before
    )
    evaluations, following = paging.cut(found)
    return EvaluationPage(evaluations=[_document(service, job) for job in evaluations], next=following)


add_job_routes(router, "evaluation", EvaluationDocument, _document)
