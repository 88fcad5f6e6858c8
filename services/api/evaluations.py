"""Routes of evaluations, which fine-tune and score a student or a teacher on a labelled task."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from services.api.bodies import JsonRoute, RequestKeyDep
from services.api.dependencies import CallerDep, ServiceDep
from services.api.jobs import PATHS, accepted, add_job_routes, followed
from services.api.paging import PagingDep
from services.api.problems import RESPONSES
from services.api.schemas import EvaluationPage
from services.jobs.documents import EvaluationDocument, evaluation_document
from services.jobs.records import Job, JobFilter
from services.service import Service
from workloads.spec.evaluation import EvaluationRequest

router = APIRouter(prefix=PATHS["evaluation"], tags=["evaluations"], responses=RESPONSES, route_class=JsonRoute)


def _document(service: Service, job: Job) -> EvaluationDocument:
    return evaluation_document(job, service.storage)


@router.post("", status_code=202, responses=followed(202))
def submit(
    body: EvaluationRequest, key: RequestKeyDep, caller: CallerDep, service: ServiceDep, response: Response
) -> EvaluationDocument:
    """Queue an evaluation."""
    job = service.evaluate(body, key, caller=caller)
    accepted(response, service, job)
    return _document(service, job)


@router.get("")
def page(
    caller: CallerDep,
    service: ServiceDep,
    paging: PagingDep,
    compression: Annotated[str | None, Query(description="Only evaluations of this compression's students.")] = None,
    student: Annotated[str | None, Query(description="Only evaluations of this student.")] = None,
) -> EvaluationPage:
    """List evaluations, newest first."""
    wanted = JobFilter("evaluation", caller.sees, parent=compression, student=student)
    found = service.store.page(wanted, limit=paging.wanted, before=paging.before)
    evaluations, following = paging.cut(found)
    return EvaluationPage(evaluations=[_document(service, job) for job in evaluations], next=following)


add_job_routes(router, "evaluation", EvaluationDocument, _document)
