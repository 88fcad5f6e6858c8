"""Route of the Ray cluster that runs use."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import APIRouter

from services.api.dependencies import ServiceDep
from services.api.problems import RESPONSES
from services.api.schemas import ClusterDocument, ClusterNode, ResourceAmount
from services.jobs.documents import RayDocument
from services.jobs.ray_jobs import RayUnreachableError
from services.jobs.ray_nodes import Amount, RayNode

router = APIRouter(prefix="/v1/cluster", tags=["cluster"], responses=RESPONSES)


@router.get("")
def cluster(service: ServiceDep) -> ClusterDocument:
    """Show the nodes of Ray with their CPUs, GPUs and memory; while Ray does not answer, the reason."""
    readiness = service.cluster.readiness()
    ray = RayDocument(state=readiness.state, note=readiness.note)
    try:
        nodes = service.cluster_view.nodes()
    except RayUnreachableError as error:
        nodes, ray = None, RayDocument(state="unavailable", note=str(error))
    if nodes is None:
        return ClusterDocument(ray=ray)
    return ClusterDocument(
        ray=ray,
        nodes=[
            ClusterNode(
                id=node.id,
                head=node.is_head,
                cpus=_shown(node.cpus),
                gpus=_shown(node.gpus),
                memory_bytes=_shown(node.memory),
            )
            for node in nodes
        ],
        cpus=_sum(nodes, lambda node: node.cpus),
        gpus=_sum(nodes, lambda node: node.gpus),
        memory_bytes=_sum(nodes, lambda node: node.memory),
    )


def _sum(nodes: Sequence[RayNode], of: Callable[[RayNode], Amount]) -> ResourceAmount:
    amounts = [of(node) for node in nodes]
    free = [one.free for one in amounts if one.free is not None]
    return ResourceAmount(
        total=sum(one.total for one in amounts), free=sum(free) if len(free) == len(amounts) else None
    )


def _shown(amount: Amount) -> ResourceAmount:
    return ResourceAmount(total=amount.total, free=amount.free)
