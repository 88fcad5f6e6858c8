"""Documents of jobs, for the API and the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.jobs.states import AttemptStatus, JobStatus
from workloads.answers.choosing import over_best
from workloads.documents.job_folder import (
    ErrorDocument,
    InfeasibleDocument,
    JobFolder,
    KnownTeacherDocument,
    PlanDocument,
    StepDocument,
    StudentDocument,
    TeacherDocument,
)
from workloads.spec.evaluation import EvaluatedModel, EvaluationResult
from workloads.spec.request import KindName

if TYPE_CHECKING:  # the client imports these models, and must load neither pyarrow nor the service
    from services.embedded.cluster import Readiness
    from services.jobs.records import Attempt, Job, JobSummary
    from workloads.storage.storage import Storage


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)


class AttemptDocument(_Document):
    """One run of a job."""

    number: int
    status: AttemptStatus
    reason: str | None = Field(None, description="Why it ended as it did.")
    started_at: datetime
    finished_at: datetime | None = None


class RayDocument(_Document):
    """State of Ray: whether runs can be started."""

    state: Literal["starting", "ready", "unavailable", "stopped"]
    note: str


class ShownStudent(StudentDocument):
    """A student of a compression or a selection."""

    over_best: float | None = Field(
        None,
        description="Held-out loss divided by the smallest of these students, minus 1: 0.05 is 5 % more. Null if the "
        "smallest is not positive.",
    )


class JobDocument(_Document):
    """A compression: its request, state and results."""

    id: str
    status: JobStatus
    batch: str | None = Field(None, description="Id of its batch, if it is part of one.")
    reason: str | None = Field(None, description="Why it is in this state, if that is not obvious.")
    attempt: int = Field(description="Number of the latest attempt; 0 before the first.")
    steps: list[StepDocument]
    students: list[ShownStudent]
    infeasible: list[InfeasibleDocument]
    error: ErrorDocument | None = None
    artifacts: dict[str, list[str]] = Field(default_factory=dict, description="Fingerprints by stage.")
    seconds: float | None = Field(None, description="Run time of the attempt that succeeded.")
    teacher: TeacherDocument | KnownTeacherDocument | None = Field(
        None, description="In full with the result; before it, what its folder tells."
    )
    pictures: dict[str, str] = Field(default_factory=dict, description="Files by the name of the picture.")
    planned: PlannedDocument | None = Field(None, description="Estimates of a plan of this request.")
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    request: dict[str, Any]
    attempts: list[AttemptDocument]
    ray: RayDocument


class StudentSummary(_Document):
    """Summary of a student in lists; `…/students` shows it in full."""

    id: str
    budget: str
    params: int
    heldout_loss: float
    speed_up: float | None = Field(None, description="The teacher's latency divided by its own, if measured.")


class CompressionSummary(_Document):
    """Summary of a compression in lists; `/v1/compressions/{id}` shows it in full."""

    id: str
    status: JobStatus
    batch: str | None = Field(None, description="Id of its batch, if it is part of one.")
    reason: str | None = Field(None, description="Why it is in this state, if that is not obvious.")
    attempt: int = Field(description="Number of the latest attempt; 0 before the first.")
    teacher: str | None = Field(description="The teacher's model as in the request.")
    teacher_kind: KindName | None = Field(None, description="Kind of the teacher, if it was known on acceptance.")
    labels: dict[str, str]
    budgets: list[str] = Field(description="Names of the request's budgets.")
    students: list[StudentSummary]
    progress: StepDocument | None = Field(None, description="Current step of a running compression.")
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None


class PlannedDocument(_Document):
    """Estimates of this compression's plan, beside its actual time and resources."""

    plan: str
    seconds: float = Field(description="Estimated duration.")
    took_seconds: float | None = Field(None, description="Actual duration.")
    error: float | None = Field(None, description="Actual duration divided by the estimate, minus 1.")


class SelectionDocument(_Document):
    """New budgets on a finished compression; students are pending until their files are made."""

    id: str
    compression: str
    status: JobStatus
    reason: str | None = None
    budgets: list[dict[str, Any]]
    students: list[ShownStudent]
    infeasible: list[InfeasibleDocument]
    unanswered: list[str] = Field(
        default_factory=list,
        description="Budgets on a latency target on which nothing was measured yet; the run answers them.",
    )
    provisional: bool = Field(
        False, description="Whether measuring latency, polishing or a proxy task may still change the choice."
    )
    note: str | None = Field(None, description="Note on the limits of the answer.")
    error: ErrorDocument | None = None
    steps: list[StepDocument]
    created_at: datetime
    finished_at: datetime | None = None


class PlanJobDocument(_Document):
    """Estimated time and resources of a compression; ``plan`` is set once the calibration has run."""

    id: str
    status: JobStatus
    reason: str | None = None
    plan: PlanDocument | None = None
    error: ErrorDocument | None = None
    steps: list[StepDocument]
    created_at: datetime
    finished_at: datetime | None = None


class EvaluationDocument(_Document):
    """An evaluation of a model on a labelled task; ``result`` is set once all seeds have ended."""

    id: str
    name: str = Field(description="Name of the task in the request.")
    model: EvaluatedModel | None = Field(description="Null if the request is of an older version and cannot be read.")
    status: JobStatus
    reason: str | None = Field(None, description="Why it is in this state, if that is not obvious.")
    attempt: int = Field(description="Number of the latest attempt; 0 before the first.")
    steps: list[StepDocument] = Field(description="The steps, with one for each seed.")
    result: EvaluationResult | None = None
    error: ErrorDocument | None = None
    artifacts: dict[str, list[str]] = Field(default_factory=dict, description="Fingerprints by stage.")
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    request: dict[str, Any]
    attempts: list[AttemptDocument]


class EventEntry(_Document):
    """An event of an attempt."""

    attempt: int
    sequence: int
    time: str
    type: str
    message: str
    data: dict[str, Any]


def job_document(job: Job, storage: Storage, ray: Readiness, plan: Job | None = None) -> JobDocument:
    """Build a compression's document; the storage is read only for the progress of an unfinished job."""
    result = job.result
    return JobDocument(
        id=job.id,
        status=job.status,
        batch=job.batch,
        reason=job.reason or _while_ray_is_away(job.status, ray),
        attempt=job.attempt,
        steps=_steps(job, storage),
        students=_shown([with_place(student, storage) for student in result.students]) if result else [],
        infeasible=result.infeasible if result else [],
        error=result.error if result else None,
        artifacts=result.artifacts if result else {},
        seconds=result.seconds if result and result.status == "succeeded" else None,
        teacher=result.teacher if result and result.teacher else _known_teacher(job.request),
        pictures={name: placed(path, storage) for name, path in result.pictures.items()} if result else {},
        planned=_planned(job, plan),
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        request=job.request,
        attempts=[_attempt_document(attempt) for attempt in job.attempts],
        ray=RayDocument(state=ray.state, note=ray.note),
    )


def _known_teacher(request: Mapping[str, Any]) -> KnownTeacherDocument | None:
    """Return what a request tells of its teacher's kind; it is known on acceptance for a folder of this machine."""
    teacher = request.get("teacher")
    kind = teacher.get("kind") if isinstance(teacher, dict) else None
    return None if kind is None else KnownTeacherDocument(kind=kind)


def compression_summary(job: JobSummary, storage: Storage) -> CompressionSummary:
    """Build a compression's entry in lists; an unreadable row gets an entry that says so."""
    common = {name: getattr(job, name) for name in ("id", "status", "batch", "attempt")}
    times = {name: getattr(job, name) for name in ("created_at", "started_at", "finished_at")}
    try:
        running = job.status is JobStatus.RUNNING
        progress = current_step(storage, job.id, job.attempt) if running else None
        return CompressionSummary(**common, **times, **job.shown, reason=job.reason, progress=progress)
    except (ValidationError, TypeError) as error:
        import structlog  # the clients import this module and log nothing

        structlog.get_logger(__name__).warning("job_not_shown", job=job.id, error=str(error))
        unknown: dict[str, Any] = {"teacher": None, "labels": {}, "budgets": [], "students": []}
        reason = "It cannot be summarised: another version wrote its request or result. Read it by its id."
        return CompressionSummary(**common, **times, **unknown, reason=reason)


def selection_document(job: Job, storage: Storage) -> SelectionDocument:
    """Build a selection's document: the run's answer, or the immediate one."""
    assert job.parent is not None
    result, at_once = job.result, _at_once(job)
    succeeded = result is not None and result.status == "succeeded"
    if result is not None and succeeded:
        students = [with_place(student, storage) for student in result.students]
        infeasible = result.infeasible
    else:
        failed = {"status": "failed"} if job.status.is_terminal else {}
        students = [student.model_copy(update=failed) for student in at_once.students]
        infeasible = at_once.infeasible
    return SelectionDocument(
        id=job.id,
        compression=job.parent,
        status=job.status,
        reason=job.reason,
        budgets=job.request.get("budgets") or [],
        students=_shown(students),
        infeasible=infeasible,
        unanswered=[] if succeeded else at_once.unanswered,
        provisional=at_once.provisional and not succeeded,
        note=at_once.note,
        error=result.error if result else None,
        steps=_steps(job, storage),
        created_at=job.created_at,
        finished_at=job.finished_at,
    )


def _while_ray_is_away(status: JobStatus, ray: Readiness) -> str | None:
    """The reason why an unfinished job waits while Ray does not answer."""
    if ray.state == "ready":
        return None
    if status is JobStatus.QUEUED:
        return "It waits for Ray, which does not answer yet."
    if status in {JobStatus.RUNNING, JobStatus.CANCELLING}:
        return (
            "Ray does not answer, so the state of the run is unknown. When Ray answers, the run is followed again. If "
            "it has died, a new attempt continues from its finished stages. This does not count as a failure of the "
            "job."
        )
    return None


class _AtOnce(BaseModel):
    """The immediate answer of a selection, as stored in the database."""

    students: list[StudentDocument] = []
    infeasible: list[InfeasibleDocument] = []
    unanswered: list[str] = []
    provisional: bool = True
    note: str | None = None


def _at_once(job: Job) -> _AtOnce:
    try:
        return _AtOnce.model_validate(job.answer or {})
    except ValidationError:
        return _AtOnce(note="Another version of stillroom wrote this answer, and this version cannot read it.")


def plan_document(job: Job, storage: Storage) -> PlanJobDocument:
    """Build a plan's document."""
    return PlanJobDocument(
        id=job.id,
        status=job.status,
        reason=job.reason,
        plan=job.result.plan if job.result else None,
        error=job.result.error if job.result else None,
        steps=_steps(job, storage),
        created_at=job.created_at,
        finished_at=job.finished_at,
    )


def evaluation_document(job: Job, storage: Storage) -> EvaluationDocument:
    """Build an evaluation's document."""
    # The folder of the student's files is internal to the run, so it is not shown.
    asked = {name: value for name, value in job.request.items() if name != "files"}
    task, result = asked.get("task"), job.result
    return EvaluationDocument(
        id=job.id,
        name=str(task.get("name", "")) if isinstance(task, dict) else "",
        model=_evaluated(asked.get("model")),
        status=job.status,
        reason=job.reason,
        attempt=job.attempt,
        steps=_steps(job, storage),
        result=_with_places(result.evaluation, storage) if result else None,
        error=result.error if result else None,
        artifacts=result.artifacts if result else {},
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        request=asked,
        attempts=[_attempt_document(attempt) for attempt in job.attempts],
    )


def _with_places(result: EvaluationResult | None, storage: Storage) -> EvaluationResult | None:
    """Make the folders of an evaluation's models full paths or URLs."""
    if result is None:
        return None
    seeds = [
        seed if seed.files is None else seed.model_copy(update={"files": placed(seed.files, storage)})
        for seed in result.seeds
    ]
    return result.model_copy(update={"seeds": seeds})


def _evaluated(model: Any) -> EvaluatedModel | None:
    try:
        return EvaluatedModel.model_validate(model)
    except ValidationError:  # written by another version
        return None


def _planned(job: Job, plan: Job | None) -> PlannedDocument | None:
    if plan is None or plan.result is None or plan.result.plan is None:
        return None
    estimate = plan.result.plan.seconds
    took = job.result.seconds if job.result and job.result.status == "succeeded" else None
    error = took / estimate - 1 if took is not None and estimate > 0 else None
    return PlannedDocument(plan=plan.id, seconds=estimate, took_seconds=took, error=error)


def _steps(job: Job, storage: Storage) -> list[StepDocument]:
    return list(job.steps) if job.steps is not None else _current_steps(job, storage)


def current_step(storage: Storage, job_id: str, attempt: int) -> StepDocument | None:
    """Return the current step of a running job."""
    return next((step for step in _progress_of(storage, job_id, attempt) if step.status == "running"), None)


def _current_steps(job: Job, storage: Storage) -> list[StepDocument]:
    return _progress_of(storage, job.id, job.attempt)


def _progress_of(storage: Storage, job_id: str, attempt: int) -> list[StepDocument]:
    if attempt == 0:
        return []
    try:
        progress = JobFolder(storage, job_id).read_progress(attempt)
    except ValidationError:  # written by another version; the controller reports it when the run ends
        return []
    return progress.steps if progress else []


def with_place(student: StudentDocument, storage: Storage) -> StudentDocument:
    """Make ``files`` a full path or URL."""
    if student.files is None:
        return student
    return student.model_copy(update={"files": placed(student.files, storage)})


def _shown(students: Sequence[StudentDocument]) -> list[ShownStudent]:
    over = over_best([student.heldout_loss for student in students])
    return [ShownStudent(**dict(student), over_best=one) for student, one in zip(students, over, strict=True)]


def placed(path: str, storage: Storage) -> str:
    """Make a path relative to the storage a full path or URL."""
    if storage.local:
        return storage.path(path)
    scheme = storage.url.partition("://")[0]
    return f"{scheme}://{storage.path(path)}"


def _attempt_document(attempt: Attempt) -> AttemptDocument:
    return AttemptDocument(
        number=attempt.number,
        status=attempt.status,
        reason=attempt.reason,
        started_at=attempt.started_at,
        finished_at=attempt.finished_at,
    )
