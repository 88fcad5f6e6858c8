"""Routes that answer from a finished compression: new budgets, and the frontier."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from services.api.bodies import JsonRoute, RequestKeyDep
from services.api.dependencies import CallerDep, JobDep, ServiceDep
from services.api.jobs import PATHS, accepted, add_job_routes, followed
from services.api.paging import PagingDep
from services.api.problems import RESPONSES
from services.api.schemas import (
    CandidateEntry,
    CandidatePage,
    FrontierDocument,
    FrontierLatency,
    SelectionPage,
)
from services.intake.selection import SelectionRequest
from services.jobs.documents import SelectionDocument, selection_document
from services.jobs.records import Job, JobFilter
from services.searches import frontier as results
from services.searches.frontier import LATENCY, latency_axis, length_of
from services.service import Service
from workloads.answers.latency import Percentile
from workloads.spec.errors import InputError

router = APIRouter(tags=["selections"], responses=RESPONSES, route_class=JsonRoute)

_COMPRESSION = f"{PATHS['compression']}/{{job_id}}"
SequenceLength = Annotated[
    int,
    Query(
        ge=1,
        le=4096,
        description="Tokens that flops are counted at, at most the teacher's longest input; default: 128, or that.",
    ),
]
CostName = Literal["params", "params_without_embeddings", "flops", "weight_bytes", "activation_bytes", "latency"]


def _document(service: Service, job: Job) -> SelectionDocument:
    return selection_document(job, service.storage)


@router.post(
    f"{_COMPRESSION}/selections",
    status_code=201,
    responses=followed(201),
)
def select(
    body: SelectionRequest, key: RequestKeyDep, caller: CallerDep, job: JobDep, service: ServiceDep, response: Response
) -> SelectionDocument:
    """Answer new budgets from the scores table, at once; files that are not there yet follow."""
    selection = service.select(job, body, key, caller=caller)
    accepted(response, service, selection)
    return _document(service, selection)


@router.get(f"{_COMPRESSION}/selections")
def page(job: JobDep, caller: CallerDep, service: ServiceDep, paging: PagingDep) -> SelectionPage:
    """List a compression's selections, newest first."""
    wanted = JobFilter("selection", caller.sees, parent=job.id)
    found = service.store.page(wanted, limit=paging.wanted, before=paging.before)
    selections, following = paging.cut(found)
    return SelectionPage(selections=[_document(service, one) for one in selections], next=following)


add_job_routes(router, "selection", SelectionDocument, _document)


@router.get(f"{_COMPRESSION}/candidates")
def candidates(
    job: JobDep,
    service: ServiceDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    after: Annotated[str, Query(pattern=r"^\d{1,9}$", description="The `next` of an earlier page.")] = "0",
    sequence_length: SequenceLength | None = None,
) -> CandidatePage:
    """List the candidates that were scored, page by page, with those that the search dropped."""
    known, begin = service.searches.known(job), int(after)
    sequence_length = length_of(known, sequence_length)
    found = results.candidates(known, slice(begin, begin + limit + 1), sequence_length)
    return CandidatePage(
        candidates=[CandidateEntry(**one) for one in found[:limit]],
        next=str(begin + limit) if len(found) > limit else None,
    )


@router.get(f"{_COMPRESSION}/frontier")
def frontier(
    job: JobDep,
    service: ServiceDep,
    cost: Annotated[list[CostName] | None, Query(description="One or two costs.", max_length=2)] = None,
    sequence_length: SequenceLength | None = None,
    latency_target: Annotated[
        str | None,
        Query(
            description="Latency target, for `cost=latency` only; optional if latency was measured on a single target."
        ),
    ] = None,
    latency_percentile: Percentile = "p50",
) -> FrontierDocument:
    """Show the candidates that no other beats in held-out loss and in all of the costs at once."""
    known = service.searches.known(job)
    sequence_length = length_of(known, sequence_length)
    costs, axis, latency = list(dict.fromkeys(cost or ["flops"])), None, None
    if LATENCY not in costs and latency_target is not None:
        raise InputError.of("latency_target", "Latency is none of the costs.", "Add cost=latency, or leave it out.")
    if LATENCY in costs:
        axis = latency_axis(service.searches, list(service.with_selections(job)), latency_target, latency_percentile)
        model = axis.model
        latency = FrontierLatency(
            target=model.target, percentile=latency_percentile, device=model.device, error=model.error
        )
    points = results.frontier(known, costs, sequence_length, axis)
    return FrontierDocument(
        costs=costs, sequence_length=sequence_length, latency=latency, note=known.note, points=points
    )
