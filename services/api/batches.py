"""Routes of batches: several teachers and a common part in one request."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import StreamingResponse

from services.api.batch_schemas import (
    BatchDocument,
    BatchPage,
    BatchResults,
    batch_document,
    batch_results,
    batch_summary,
    results_csv,
)
from services.api.bodies import JsonRoute, RequestKeyDep
from services.api.conditional import UNCHANGED, document_response
from services.api.dependencies import CallerDep, LabelsDep, ServiceDep
from services.api.jobs import follow, followed
from services.api.negotiation import accepts
from services.api.paging import PagingDep
from services.api.problems import RESPONSES
from services.intake.batch import BatchRequest
from services.jobs.batches import Batch
from services.service import Service

PREFIX = "/v1/batches"
CSV = "text/csv"
router = APIRouter(prefix=PREFIX, tags=["batches"], responses=RESPONSES, route_class=JsonRoute)

_RESULTS: dict[int | str, dict[str, Any]] = {
    200: {"description": "With `Accept: text/csv` as CSV.", "content": {CSV: {"schema": {"type": "string"}}}}
}


def _batch(batch_id: str, caller: CallerDep, service: ServiceDep) -> Batch:
    return service.batches.get(batch_id, tenant=caller.sees)


BatchDep = Annotated[Batch, Depends(_batch)]


@router.post("", status_code=202, responses=followed(202))
def submit(
    body: BatchRequest, key: RequestKeyDep, caller: CallerDep, service: ServiceDep, response: Response
) -> BatchDocument:
    """Queue a batch: all of its compressions, or none if one is invalid."""
    return _accepted(response, service, service.submit_batch(body, key, caller=caller))


@router.get("")
def page(caller: CallerDep, service: ServiceDep, labels: LabelsDep, paging: PagingDep) -> BatchPage:
    """List batches, newest first."""
    found = service.batches.page(tenant=caller.sees, labels=labels, limit=paging.wanted, before=paging.before)
    batches, following = paging.cut(found)
    return BatchPage(batches=[batch_summary(batch) for batch in batches], next=following)


@router.get("/{batch_id}", response_model=BatchDocument, responses=UNCHANGED)
def read(batch: BatchDep, service: ServiceDep, request: Request) -> Response:
    """Show one batch with the state of each compression."""
    return document_response(request, _document(service, batch))


@router.get("/{batch_id}/results", response_model=BatchResults, responses=_RESULTS)
def results(
    batch: BatchDep, service: ServiceDep, response: Response, accept: Annotated[str, Header()] = ""
) -> BatchResults | StreamingResponse:
    """Show one table over all teachers, with a row per student or infeasible budget; CSV with `Accept: text/csv`."""
    found = service.batches.results(batch.id)
    if not accepts(accept, CSV):
        response.headers["Vary"] = "Accept"
        return batch_results(batch, found, service.storage)
    headers = {"Content-Disposition": f'attachment; filename="{batch.id}.csv"', "Vary": "Accept"}
    return StreamingResponse(results_csv(found, service.storage), media_type=CSV, headers=headers)


@router.post("/{batch_id}/cancel", status_code=202, responses=followed(202))
def cancel(batch: BatchDep, service: ServiceDep, response: Response) -> BatchDocument:
    """Cancel the batch's compressions that have not ended; repeating it changes nothing."""
    return _accepted(response, service, service.cancel_batch(batch.id))


@router.post("/{batch_id}/retry", status_code=202, responses=followed(202))
def retry(batch: BatchDep, service: ServiceDep, response: Response) -> BatchDocument:
    """Queue the batch's failed and cancelled compressions again; finished steps are not repeated."""
    return _accepted(response, service, service.retry_batch(batch.id))


@router.delete("/{batch_id}", status_code=204)
def delete(batch: BatchDep, service: ServiceDep) -> None:
    """Delete an ended batch, its compressions, all jobs made from them, and their folders; artefacts stay."""
    service.delete_batch(batch.id)


def _accepted(response: Response, service: Service, batch: Batch) -> BatchDocument:
    follow(response, service, f"{PREFIX}/{batch.id}")
    return _document(service, batch)


def _document(service: Service, batch: Batch) -> BatchDocument:
    return batch_document(batch, service.batches.members(batch.id), service.storage)
