"""Dependencies of routes, as ``Annotated`` aliases."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, HTTPException, Path, Query, Request, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import StringConstraints

from services.access.caller import LOCAL, Caller, Scope
from services.access.limits import address_bucket
from services.api.event_stream import EventStreams
from services.jobs.records import Job
from services.jobs.students import find_student
from services.service import Service
from workloads.documents.job_folder import JobKind, StudentDocument

_LABEL = r"^[A-Za-z0-9._-]+:[^\x00]*$"


# Simple dependencies are async, since FastAPI would run a plain function in a thread for each request.
async def _service(request: Request) -> Service:
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


ServiceDep = Annotated[Service, Depends(_service)]


async def _event_streams(request: Request) -> EventStreams:
    streams = request.app.state.event_streams
    assert isinstance(streams, EventStreams)
    return streams


EventStreamsDep = Annotated[EventStreams, Depends(_event_streams)]


_KEY = HTTPBearer(
    scheme_name="key",
    description="A key from `stillroom keys create`; not needed with `stillroom serve --insecure-local`.",
    auto_error=False,
)
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
KeyDep = Annotated[HTTPAuthorizationCredentials | None, Security(_KEY)]


async def identify(request: Request) -> Caller:
    """Identify the caller of a request. Changes need the scope ``submit``, reads the scope ``read``.

    Each request is checked once, and counts once in the key's rate. A cached key needs no thread.
    """
    if not hasattr(request.state, "caller"):
        request.state.caller = await _identified(request, await _service(request), await _KEY(request))
    caller = request.state.caller
    assert isinstance(caller, Caller)
    return caller


async def _identified(request: Request, service: Service, key: HTTPAuthorizationCredentials | None) -> Caller:
    if service.settings.insecure_local:
        return LOCAL
    if key is None:
        raise _unauthorized("This needs a key. Send it in the header 'Authorization', after the word 'Bearer'.")
    caller = service.key_checks.remembered(key.credentials) or await _checked(request, service, key.credentials)
    assert caller.key_id is not None
    wait = service.rate.take(caller.key_id)
    if wait > 0:
        limit = service.settings.requests_per_second
        raise _too_often(wait, f"The key may make {limit:g} requests a second. Ask again in a moment.")
    needed = Scope.READ if request.method in _READING else Scope.SUBMIT
    if not caller.may(needed):
        raise HTTPException(403, f"The key lacks the scope '{needed}'. Use a key with this scope.")
    return caller


async def _checked(request: Request, service: Service, text: str) -> Caller:
    """Look up the caller of a key in the database; addresses that send many unknown keys are refused for a while."""
    address = address_bucket(request.client.host if request.client is not None else "")
    if not service.key_checks.was_accepted(text) and (wait := service.refusals.wait(address)) > 0:
        raise _too_often(wait, "Too many unknown keys came from this address. Ask again in a moment.")
    caller = await run_in_threadpool(service.key_checks.check, text)
    if caller is None:
        service.refusals.take(address)
        raise _unauthorized("The key is unknown, revoked or expired. Ask an administrator for a new one.")
    return caller


async def _caller(request: Request, _key: KeyDep) -> Caller:
    return await identify(request)  # the unused parameter puts the key into the OpenAPI document


def _too_often(wait: float, detail: str) -> HTTPException:
    return HTTPException(429, detail, {"Retry-After": str(math.ceil(wait))})


def _unauthorized(detail: str) -> HTTPException:
    return HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})


CALLER = Depends(_caller)
"""Dependency of every route below ``/v1``, so that no route can omit authentication."""
CallerDep = Annotated[Caller, CALLER]


async def _metrics_reader(request: Request, service: ServiceDep, _key: KeyDep) -> None:
    if not service.settings.open_metrics:
        await identify(request)


METRICS_READER = Depends(_metrics_reader)


async def _still_allowed(service: ServiceDep, key: KeyDep) -> Callable[[], bool]:
    """Return a function that tells whether the caller of a long answer may still read; it checks the key again."""

    def still_allowed() -> bool:
        if service.settings.insecure_local:
            return True
        caller = service.key_checks.check(key.credentials) if key is not None else None
        return caller is not None and caller.may(Scope.READ)

    return still_allowed


StillAllowedDep = Annotated[Callable[[], bool], Depends(_still_allowed)]


def id_of(kind: JobKind) -> str:
    """Name of the path parameter with the id of a kind of job."""
    return "job_id" if kind == "compression" else f"{kind}_id"


def job_of(kind: JobKind) -> Callable[..., Job]:
    """Make a dependency that gives the job of this kind in the path, if the caller may see it."""
    by_id = Path(alias=id_of(kind))

    def found(caller: CallerDep, service: ServiceDep, job_id: str = by_id) -> Job:
        return service.store.get(job_id, kind, tenant=caller.sees)

    return found


JobDep = Annotated[Job, Depends(job_of("compression"))]


def _student(student_id: str, job: JobDep, service: ServiceDep) -> StudentDocument:
    """Find a student of a compression or its selections, with its folder relative to the storage."""
    student = find_student(service.store, job, student_id)
    if student is None:
        raise HTTPException(404, f"{job.id} is {job.status} and has no student {student_id}.")
    return student


StudentDep = Annotated[StudentDocument, Depends(_student)]


async def _labels(
    label: Annotated[
        list[Annotated[str, StringConstraints(pattern=_LABEL)]] | None,
        Query(description="`name:value`; of several, all must match.", max_length=16),
    ] = None,
) -> dict[str, str]:
    pairs = [one.partition(":") for one in label or []]
    labels = {name: value for name, _, value in pairs}
    # No job has one name with two values, so use a label that no job has.
    return labels if len(labels) == len(set(pairs)) else {"": ""}


LabelsDep = Annotated[dict[str, str], Depends(_labels)]
