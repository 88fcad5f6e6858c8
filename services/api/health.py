"""Routes that say whether the service is there, and whether it can work."""

from __future__ import annotations

from fastapi import APIRouter, Response

from services.api.dependencies import ServiceDep
from services.api.schemas import Health
from services.jobs.documents import RayDocument

router = APIRouter(tags=["health"])


@router.get("/healthz")
def alive() -> Health:
    """Say that the service answers."""
    return Health(status="ok")


@router.get("/readyz", responses={503: {"model": Health}})
def ready(service: ServiceDep, response: Response) -> Health:
    """Say whether jobs can be stored and run; 503 while they cannot."""
    service.store.page(limit=1)
    readiness = service.cluster.readiness()
    if not readiness.ready:
        response.status_code = 503
    return Health(
        status="ready" if readiness.ready else "not ready", ray=RayDocument(state=readiness.state, note=readiness.note)
    )
