"""Route of the caller's identity, quotas and usage."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter

from services.api.dependencies import CallerDep, ServiceDep
from services.api.problems import RESPONSES
from services.api.schemas import MeDocument, QuotaDocument, UsageDocument

router = APIRouter(prefix="/v1/me", tags=["access"], responses=RESPONSES)


@router.get("")
def me(caller: CallerDep, service: ServiceDep) -> MeDocument:
    """Show the caller's tenant, scopes, quotas and use."""
    quota, usage = service.standing(caller.tenant)
    return MeDocument(
        tenant=caller.tenant,
        scopes=sorted(caller.scopes),
        key_id=caller.key_id,
        quotas=QuotaDocument(**asdict(quota)),
        usage=UsageDocument(**asdict(usage)),
    )
