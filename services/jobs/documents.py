"""Jobs as people and programs get to see them, over HTTP and from the command line."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.embedded.cluster import Readiness
from services.jobs.records import Attempt, Job
from services.jobs.states import AttemptStatus, JobStatus
from workloads.job_folder import ErrorDocument, InfeasibleDocument, JobFolder, StepDocument, StudentDocument
from workloads.storage import Storage


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True)


class AttemptDocument(_Document):
    """One run of a job."""

    number: int
    status: AttemptStatus
    reason: str | None = Field(None, description="Why it ended as it did.")
    started_at: datetime
    finished_at: datetime | None = None


class RayDocument(_Document):
    """Whether runs can be started."""

    state: Literal["starting", "ready", "unavailable", "stopped"]
    note: str


class JobDocument(_Document):
    """A compression: what was asked, where it stands, what it gave."""

    id: str
    status: JobStatus
    reason: str | None = Field(None, description="Why it is in this state, where that needs saying.")
    attempt: int = Field(description="Number of the latest attempt; 0 before the first.")
    steps: list[StepDocument]
    students: list[StudentDocument]
    infeasible: list[InfeasibleDocument]
    error: ErrorDocument | None = None
    artifacts: dict[str, list[str]] = Field(default_factory=dict, description="Fingerprints by stage.")
    seconds: float | None = Field(None, description="Run time of the attempt that succeeded.")
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    request: dict[str, Any]
    attempts: list[AttemptDocument]
    ray: RayDocument


class EventEntry(_Document):
    """Something that happened in an attempt."""

    attempt: int
    sequence: int
    time: str
    type: str
    message: str
    data: dict[str, Any]


def job_document(job: Job, storage: Storage, ray: Readiness) -> JobDocument:
    """Give a job's document; of the storage only the progress of a job without its final steps is read."""
    result = job.result
    return JobDocument(
        id=job.id,
        status=job.status,
        reason=job.reason,
        attempt=job.attempt,
        steps=list(job.steps) if job.steps is not None else _current_steps(job, storage),
        students=[_with_place(student, storage) for student in result.students] if result else [],
        infeasible=result.infeasible if result else [],
        error=result.error if result else None,
        artifacts=result.artifacts if result else {},
        seconds=result.seconds if result and result.status == "succeeded" else None,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        request=job.request,
        attempts=[_attempt_document(attempt) for attempt in job.attempts],
        ray=RayDocument(state=ray.state, note=ray.note),
    )


def job_events(job: Job, storage: Storage, after: tuple[int, int] = (0, 0)) -> list[EventEntry]:
    """Give the events of all attempts, oldest first, that come after ``(attempt, sequence)``."""
    folder = JobFolder(storage, job.id)
    return [
        EventEntry(attempt=attempt.number, **event.model_dump())
        for attempt in job.attempts
        if attempt.number >= after[0]
        for event in folder.read_events(attempt.number)
        if (attempt.number, event.sequence) > after
    ]


def _current_steps(job: Job, storage: Storage) -> list[StepDocument]:
    if job.attempt == 0:
        return []
    try:
        progress = JobFolder(storage, job.id).read_progress(job.attempt)
    except ValidationError:  # of another version; the controller says so when the run ends
        return []
    return progress.steps if progress else []


def _with_place(student: StudentDocument, storage: Storage) -> StudentDocument:
    """Make ``files`` a path that can be opened as it stands."""
    if storage.local:
        return student.model_copy(update={"files": storage.path(student.files)})
    scheme = storage.url.partition("://")[0]
    return student.model_copy(update={"files": f"{scheme}://{storage.path(student.files)}"})


def _attempt_document(attempt: Attempt) -> AttemptDocument:
    return AttemptDocument(
        number=attempt.number,
        status=attempt.status,
        reason=attempt.reason,
        started_at=attempt.started_at,
        finished_at=attempt.finished_at,
    )
