"""Routes for liveness, readiness and metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from services.api.dependencies import METRICS_READER, ServiceDep
from services.api.metrics import MEDIA_TYPE, Metrics
from services.api.problems import RESPONSES
from services.api.schemas import Health
from services.jobs.documents import RayDocument

router = APIRouter(tags=["health"])


@router.get("/healthz")
def alive() -> Health:
    """Liveness: the service answers."""
    return Health(status="ok")


@router.get("/readyz", responses={503: {"model": Health, "description": "Jobs cannot be stored or run now."}})
def ready(service: ServiceDep, response: Response) -> Health:
    """Readiness: whether jobs can be stored and run; 503 while they cannot."""
    service.store.page(limit=1)
    readiness = service.cluster.readiness()
    if not readiness.ready:
        response.status_code = 503
    return Health(
        status="ready" if readiness.ready else "not ready", ray=RayDocument(state=readiness.state, note=readiness.note)
    )


@router.get("/metrics", response_class=PlainTextResponse, dependencies=[METRICS_READER], responses=RESPONSES)
def metrics(request: Request) -> Response:
    """Metrics in Prometheus' text format."""
    found = request.app.state.metrics
    assert isinstance(found, Metrics)
    return Response(found.text(), media_type=MEDIA_TYPE)
