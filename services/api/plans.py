"""Routes of plans: what a compression would take, before any of it is done."""

from __future__ import annotations

from fastapi import APIRouter, Response

from services.api.bodies import JsonRoute, LiteralRoute, RequestKeyDep
from services.api.dependencies import CallerDep, ServiceDep
from services.api.jobs import PATHS, accepted, add_job_routes, followed
from services.api.paging import PagingDep
from services.api.problems import RESPONSES
from services.api.schemas import PlanPage
from services.jobs.documents import PlanJobDocument, plan_document
from services.jobs.records import Job, JobFilter
from services.service import Service
from workloads.spec.request import CompressionRequest

router = APIRouter(prefix=PATHS["plan"], tags=["plans"], responses=RESPONSES, route_class=JsonRoute)
asking = APIRouter(prefix=PATHS["compression"], tags=["plans"], responses=RESPONSES, route_class=LiteralRoute)


def _document(service: Service, job: Job) -> PlanJobDocument:
    return plan_document(job, service.storage)


@asking.post(
    "/plan",
    status_code=202,
    responses=followed(202),
)
def plan(
    body: CompressionRequest, key: RequestKeyDep, caller: CallerDep, service: ServiceDep, response: Response
) -> PlanJobDocument:
    """Queue a short calibration that estimates a compression; nothing is trained for it."""
    job = service.plan(body, key, caller=caller)
    accepted(response, service, job)
    return _document(service, job)


@router.get("")
def page(caller: CallerDep, service: ServiceDep, paging: PagingDep) -> PlanPage:
    """List plans, newest first."""
    found = service.store.page(JobFilter("plan", caller.sees), limit=paging.wanted, before=paging.before)
    plans, following = paging.cut(found)
    return PlanPage(plans=[_document(service, job) for job in plans], next=following)


add_job_routes(router, "plan", PlanJobDocument, _document)
