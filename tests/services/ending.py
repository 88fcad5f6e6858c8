"""Ends of attempts, as the service writes them when a run has ended."""

from __future__ import annotations

from services.jobs.records import AttemptEnd, Job
from services.jobs.states import AttemptStatus, JobStatus
from services.jobs.work import WorkStore
from workloads.documents.job_folder import ResultDocument


def succeed(work: WorkStore, job_id: str, result: ResultDocument) -> Job:
    """End a job's first attempt with a result; the job has succeeded."""
    return work.end_attempt(
        job_id, 1, AttemptEnd(AttemptStatus.SUCCEEDED, None, JobStatus.SUCCEEDED, result=result, steps=[])
    )
