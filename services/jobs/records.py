"""Jobs and attempts for the rest of the service: read-only records without the database."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from typing import Any

from services.jobs.states import LOCAL_TENANT, AttemptStatus, JobStatus
from workloads.documents.job_folder import JobKind, ResultDocument, StepDocument


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a job.

    Attributes:
        reason: Why it ended so, if that is not obvious.
        submission_id: Its id among the Ray Jobs.
    """

    number: int
    status: AttemptStatus
    reason: str | None
    submission_id: str
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an attempt ended, and what follows.

    Attributes:
        status: The attempt's final state.
        reason: Why it ended so, if that is not obvious.
        then: The job's next state: queued, for another attempt, or a terminal one.
        not_before: Time until which the next attempt waits.
        result: The job's result, if ``then`` is terminal.
        steps: The attempt's last steps, if ``then`` is terminal.
        stored_bytes: Bytes that all of the job's attempts have stored, if known.
    """

    status: AttemptStatus
    reason: str | None
    then: JobStatus
    _: KW_ONLY
    not_before: datetime | None = None
    result: ResultDocument | None = None
    steps: Sequence[StepDocument] | None = None
    stored_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to make.

    Attributes:
        request: The accepted request.
        kind: Kind of the job; its id begins with the kind's prefix.
        tenant: The tenant that owns the job.
        parent: Id of the compression of a selection or an evaluation, or of the plan of a compression.
        scores: Fingerprint of the scores table that answers a selection.
        answer: Makes the immediate answer of a selection, from its id.
        result: Makes the result of a job that needs no run, from its id; None if the job needs a run.
        tokens: Number of tokens to train on.
    """

    request: dict[str, Any]
    kind: JobKind = "compression"
    _: KW_ONLY
    tenant: str = LOCAL_TENANT
    parent: str | None = None
    scores: str | None = None
    answer: Callable[[str], dict[str, Any]] | None = None
    result: Callable[[str], ResultDocument] | None = None
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Idempotency key of a request, so that a request sent twice makes no second job.

    Attributes:
        scope: Tenant and route that the key is valid for.
        digest: Digest of the request's content.
    """

    scope: str
    key: str
    digest: str


@dataclass(frozen=True, slots=True)
class JobSummary:
    """Summary of a job in lists.

    Attributes:
        number: Position of the job in the order of creation.
        shown: Parts of the request and the result; see :mod:`services.jobs.summaries`.
    """

    number: int
    id: str
    batch: str | None
    status: JobStatus
    reason: str | None
    attempt: int
    shown: dict[str, Any]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Filter of a list of jobs; a job must meet all conditions.

    Attributes:
        kind: Kind of the jobs.
        tenant: Tenant that owns the jobs; None for all.
        status: State of the jobs.
        batch: Id of their batch.
        parent: Id of the job that they were made from.
        student: Id of the student that they evaluate.
        teachers: Teachers, of which they have one, as in stored requests.
        labels: Labels that they all have.
    """

    kind: JobKind = "compression"
    tenant: str | None = None
    status: JobStatus | None = None
    batch: str | None = None
    parent: str | None = None
    student: str | None = None
    teachers: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    """A compression, a selection from one, a plan of one, or an evaluation of a model.

    Attributes:
        number: Position of the job in the order of creation.
        kind: Kind of the job.
        tenant: The tenant that owns the job.
        batch: Id of its batch, if it is part of one.
        parent: Id of the compression of a selection or an evaluation, or of the plan of a compression, if any.
        scores: Fingerprint of the scores table that answers a selection.
        answer: The immediate answer of a selection.
        request: The accepted request, JSON-like.
        attempt: Number of the latest attempt; 0 before the first.
        resumed_after: Number of the attempt after which a person last resumed it; 0 if nobody did.
        not_before: Time until which a queued job waits (back-off).
        result: The result; None before the end.
        steps: The last attempt's steps; None before the end.
        attempts: All attempts, oldest first.
    """

    number: int
    id: str
    kind: JobKind
    tenant: str
    batch: str | None
    parent: str | None
    scores: str | None
    answer: dict[str, Any] | None
    status: JobStatus
    reason: str | None
    request: dict[str, Any]
    attempt: int
    resumed_after: int
    not_before: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    result: ResultDocument | None
    steps: tuple[StepDocument, ...] | None
    attempts: tuple[Attempt, ...]

    @property
    def latest(self) -> Attempt | None:
        """The latest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def failures(self) -> int:
        """Number of attempts that failed or were lost since the job was made or resumed."""
        return sum(one.status.counts_as_failure for one in self.attempts if one.number > self.resumed_after)

    @property
    def ray_losses(self) -> int:
        """Number of attempts lost with Ray since the job was made or resumed; they are no failures of the job."""
        lost = (one for one in self.attempts if one.status is AttemptStatus.RAY_LOST)
        return sum(one.number > self.resumed_after for one in lost)
