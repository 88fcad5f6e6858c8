"""Routes of plans: what a compression would take, before any of it is done."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from services.api.compressions import COMPRESSION_BODY, PREFIX, accepted
from services.api.conditional import UNCHANGED, document_response
from services.api.dependencies import BodyDep, CallerDep, PlanDep, RequestKeyDep, ServiceDep
from services.api.problems import RESPONSES
from services.jobs.documents import PlanJobDocument, plan_document

router = APIRouter(prefix=PREFIX, tags=["plans"], responses=RESPONSES)


@router.post("/plan", status_code=202, openapi_extra={"requestBody": {"required": True, "content": COMPRESSION_BODY}})
def plan(
    body: BodyDep, key: RequestKeyDep, caller: CallerDep, service: ServiceDep, response: Response
) -> PlanJobDocument:
    """Queue a short calibration that estimates a compression; nothing is trained for it."""
    job = service.plan(body, key, caller=caller)
    accepted(response, service, job)
    return plan_document(job, service.storage)


@router.get("/plans/{plan_id}", response_model=PlanJobDocument, responses=UNCHANGED)
def read(job: PlanDep, service: ServiceDep, request: Request) -> Response:
    """Show a plan."""
    return document_response(request, plan_document(job, service.storage))
