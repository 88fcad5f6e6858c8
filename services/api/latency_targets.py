"""Route of latency targets."""

from __future__ import annotations

from fastapi import APIRouter

from services.api.dependencies import ServiceDep
from services.api.problems import RESPONSES
from services.api.schemas import LatencyTargetList
from workloads.answers.latency import known_targets

router = APIRouter(prefix="/v1/latency-targets", tags=["latency targets"], responses=RESPONSES)


@router.get("")
def listing(service: ServiceDep) -> LatencyTargetList:
    """List the targets that a budget may name: the built-in ones and those of the service's settings."""
    return LatencyTargetList(latency_targets=list(known_targets(service.settings.latency_targets).values()))
