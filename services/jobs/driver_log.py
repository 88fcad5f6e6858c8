"""Driver logs of attempts: the output of a job's run, read from Ray or from the job's folder."""

from __future__ import annotations

from services.jobs.ray_jobs import RayJobs, RayUnreachableError
from services.jobs.records import Attempt, Job
from workloads.documents.job_folder import JobFolder
from workloads.storage.masking import mask
from workloads.storage.storage import Storage

DRIVER_LOG = "driver.log"
"""Name of the saved log in an attempt's folder."""
MOST_CHARACTERS = 100_000


class NoLogError(LookupError):
    """The requested attempt has no log; the message says why."""


def fetch_log(attempt: Attempt, ray: RayJobs) -> str | None:
    """Fetch the end of a log from Ray, in whole lines, with secrets masked; None if Ray does not know the attempt.

    Raises:
        RayUnreachableError: Ray does not answer.
    """
    text = ray.log_tail(attempt.submission_id)
    # Mask before cutting, since masking does not find a part of a secret.
    return None if text is None else _last(mask(text))


def read_log(job: Job, number: int | None, lines: int, storage: Storage, ray: RayJobs | None) -> str:
    """Read the last lines of an attempt's log, with secrets masked.

    Args:
        job: The job.
        number: Number of the attempt; None for the latest.
        lines: Most lines; the text is also cut to :data:`MOST_CHARACTERS`.
        storage: The storage with the saved logs.
        ray: The client of Ray; None while Ray does not answer.

    Raises:
        NoLogError: There is no such attempt, or its log no longer exists.
        RayUnreachableError: Only Ray may have the log, and it does not answer.
    """
    attempt = _attempt(job, number)
    text = _kept(job, attempt, storage)
    if text is None:
        if ray is None:
            raise RayUnreachableError(
                f"Only Ray can have the log of attempt {attempt.number}, and Ray does not answer now."
            )
        text = fetch_log(attempt, ray)
    if text is None:
        raise NoLogError(
            f"There is no log of attempt {attempt.number} of {job.id}: Ray does not know the attempt, or has forgotten "
            "it. See the job's events."
        )
    return "".join(text.splitlines(keepends=True)[-lines:])


def _attempt(job: Job, number: int | None) -> Attempt:
    if not job.attempts:
        raise NoLogError(f"{job.id} is {job.status} and has not been started: there is no log yet.")
    for attempt in job.attempts:
        if attempt.number == (number or job.attempt):
            return attempt
    raise NoLogError(f"{job.id} has no attempt {number}; the latest is {job.attempt}.")


def _kept(job: Job, attempt: Attempt, storage: Storage) -> str | None:
    if attempt.finished_at is None:
        return None
    try:
        data = storage.read_bytes(JobFolder(storage, job.id).path(DRIVER_LOG, attempt.number))
    except FileNotFoundError:
        return None
    return _last(mask(data.decode(errors="replace")))


def _last(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return text
    text = text[-MOST_CHARACTERS:]
    return text[text.find("\n") + 1 :]  # the whole text if it is one line
