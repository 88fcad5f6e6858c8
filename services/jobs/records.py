"""Jobs and attempts as the rest of the service sees them: read-only, free of the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.jobs.states import AttemptStatus, JobStatus
from workloads.documents.job_folder import JobKind, ResultDocument, StepDocument


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a job.

    Attributes:
        reason: Why it ended as it did, where that needs saying.
        submission_id: Its name among the Ray Jobs.
    """

    number: int
    status: AttemptStatus
    reason: str | None
    submission_id: str
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class RequestKey:
    """An idempotency key of a request, so that sending it again makes no second job.

    Attributes:
        scope: Route and tenant; a key is valid there alone.
        digest: Digest of the request's content.
    """

    scope: str
    key: str
    digest: str


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job as lists show it.

    Attributes:
        number: Orders jobs by their making.
        shown: Of the request and the result; see :mod:`services.jobs.summaries`.
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
    """Filter of a list of jobs.

    Attributes:
        kind: Those of this kind.
        tenant: Those of this tenant; None is everyone's.
        status: Those in this state.
        batch: Those of this batch.
        parent: Those of this job.
        student: Evaluations of this student.
        teachers: Those of one of these teachers, as kept requests name them.
        labels: Those that have all of these labels.
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
        number: Orders jobs by their making.
        kind: Which of them.
        tenant: Whose it is.
        batch: Of which batch it is, if of one.
        parent: A selection's compression; a compression's plan, where there was one.
        scores: Fingerprint of the scores table that a selection answers from.
        answer: What a selection could be answered at once.
        request: As accepted, JSON-like.
        attempt: Number of the latest attempt; 0 before the first.
        resumed_after: Number of the attempt after which a person last resumed it; 0 if nobody did.
        not_before: A queued job waits until then (back-off).
        result: How it ended, None before.
        steps: The last attempt's steps, None before the end.
        attempts: All of them, oldest first.
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
        """Attempts that failed or were lost since the job was made or resumed."""
        return sum(one.status.counts_as_failure for one in self.attempts if one.number > self.resumed_after)

    @property
    def ray_losses(self) -> int:
        """Attempts that Ray died under since the job was made or resumed; they are no failures of the job."""
        lost = (one for one in self.attempts if one.status is AttemptStatus.RAY_LOST)
        return sum(one.number > self.resumed_after for one in lost)
