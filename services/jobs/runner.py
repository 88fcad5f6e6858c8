"""Work on one job: submit an attempt, follow it, end it, retry.

The result in the job's folder (``result.json``) decides how an attempt ended; Ray's state counts only if there is none.
Every method may be interrupted anywhere: the next poll of the job continues from the store's state.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from pydantic import ValidationError

from services.jobs.driver_log import DRIVER_LOG, fetch_log
from services.jobs.ray_jobs import RayJobs, RayUnreachableError
from services.jobs.records import AttemptEnd, Job
from services.jobs.states import AttemptStatus, JobStatus
from services.jobs.work import WorkStore
from workloads.documents.job_folder import (
    ErrorDocument,
    JobFolder,
    OrderDocument,
    ProgressDocument,
    ResultDocument,
    StepDocument,
)
from workloads.storage.places import EVERYWHERE, Places
from workloads.storage.storage import Storage

MAX_BACKOFF_SECONDS = 300.0
# Errors that another attempt may not meet again; invalid input and a full storage are not among them.
RETRIED_CODES = frozenset({"internal", "lost", "unreachable"})
# An outage of a hub or a storage lasts minutes rather than seconds.
OUTAGE_FACTOR = 15
# Ray's messages for a job whose node, head or supervisor died, not its driver.
_RAY_DIED = re.compile(
    r"node (has )?(died|was terminated|is dead)|node.{0,80}\bdead\b|supervisor actor|owner (has )?died"
    r"|runtime.?env.{0,40}agent",
    re.IGNORECASE,
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Limits of a job's failures, and waits between attempts.

    Attributes:
        max_attempts: Number of failed or lost attempts after which the job has failed.
        backoff_seconds: Wait after the first failure; doubled for each further one, up to five minutes. After an outage
            of a hub or a storage it is :data:`OUTAGE_FACTOR` times as long.
        max_ray_losses: Number of attempts lost with Ray (they do not count as failures) after which the job has failed.
    """

    max_attempts: int
    backoff_seconds: float
    max_ray_losses: int = 10

    def wait(self, failures: int, code: str = "internal") -> timedelta:
        """Return the wait after this number of failures, the last of which had this code."""
        first = self.backoff_seconds * (OUTAGE_FACTOR if code == "unreachable" else 1)
        return timedelta(seconds=min(MAX_BACKOFF_SECONDS, first * 2 ** min(failures - 1, 20)))


class Runner:
    """Work on jobs' runs.

    Args:
        store: The jobs; work on a job needs a claim on it.
        storage: The storage with the jobs' folders.
        policy: The policy of retries.
        run_module: Python module that a run starts.
        places: Places that requests may read.
    """

    def __init__(
        self,
        store: WorkStore,
        storage: Storage,
        policy: RetryPolicy,
        run_module: str,
        places: Places = EVERYWHERE,
    ) -> None:
        self._store = store
        self._storage = storage
        self._policy = policy
        self._run_module = run_module
        self._places = places

    def submit(self, job: Job, ray: RayJobs) -> None:
        """Submit a job's latest attempt to Ray; repeating it starts nothing."""
        attempt = job.latest
        assert attempt is not None
        try:
            folder = self._folder(job)
            where = {"roots": self._places.roots, "hub": self._places.hub}
            folder.write_order(OrderDocument(kind=job.kind, scores=job.scores, **where))
            folder.write_request(job.request)
        except OSError as error:
            message = f"The job's request could not be written to the storage: {error}."
            self._fail(job, AttemptStatus.FAILED, ErrorDocument(code="storage", message=message), retry=True)
            return
        arguments = ["--storage", self._storage.url, "--job", job.id, "--attempt", str(attempt.number)]
        # sys.executable: the raylet's PATH may have another Python. -P: the run imports nothing from its folder.
        command = [sys.executable, "-P", "-m", self._run_module, *arguments]
        ray.submit(attempt.submission_id, command, {"job": job.id, "attempt": str(attempt.number)})
        self._store.mark_submitted(job.id, attempt.number)
        log.info("attempt_submitted", job=job.id, attempt=attempt.number)

    def follow(self, job: Job, ray: RayJobs | None) -> bool:
        """Check a running job, without Ray only by its folder.

        Returns:
            Whether the attempt has written a result, after which its driver should end by itself.
        """
        result = self._read_result(job)
        if result is not None and self._blames_ray(job, result, ray):
            assert result.error is not None
            self._lose_ray(job, f"Ray went away under the run, which ended with: {result.error.message}")
            return True
        if result is not None:
            self._finish(job, result, ray)
            return True
        if ray is None:
            return False
        attempt = job.latest
        assert attempt is not None
        found = ray.get(attempt.submission_id)
        if found is None:
            if attempt.status is AttemptStatus.STARTING:
                self.submit(job, ray)
            else:
                self._lose_ray(job, "Ray no longer knows the run: its head has died and was replaced.")
            return False
        if attempt.status is AttemptStatus.STARTING:
            self._store.mark_submitted(job.id, attempt.number)
        if found.status.is_terminal:
            result = self._read_result(job)  # it may have been written between the two questions
            if result is not None:
                self._finish(job, result, ray)
            elif _RAY_DIED.search(found.message):
                self._keep_log(job, ray)
                self._lose_ray(job, f"Ray has lost the run: {found.message.strip().splitlines()[-1][:300]}")
            else:
                self._lose(job, self._last_words(job, ray, found.status))
        return False

    def cancel(self, job: Job, ray: RayJobs | None) -> None:
        """Stop the run on Ray; once it has ended, the job is cancelled."""
        attempt = job.latest
        assert attempt is not None
        if ray is None:
            return
        found = ray.get(attempt.submission_id)
        if found is None or found.status.is_terminal:
            if found is not None:
                self._keep_log(job, ray)
            self._end_cancelled(job)
        else:
            ray.stop(attempt.submission_id)

    def interrupt(self, job: Job) -> None:
        """Record that the stop of the service has ended the run: the job is queued, and no failure is counted."""
        if job.status is JobStatus.CANCELLING:
            self._end_cancelled(job)
            return
        result = self._read_result(job)
        # Errors of a driver that is being ended are a consequence, not a result.
        if result is not None and (result.error is None or result.error.code not in RETRIED_CODES):
            self._finish(job, result, None)
            return
        self._store.end_attempt(
            job.id,
            job.attempt,
            AttemptEnd(
                AttemptStatus.INTERRUPTED,
                "The service was stopped.",
                JobStatus.QUEUED,
                stored_bytes=self._stored_bytes(job),
            ),
        )
        log.info("attempt_interrupted", job=job.id, attempt=job.attempt)

    def _finish(self, job: Job, result: ResultDocument, ray: RayJobs | None) -> None:
        if result.status == "succeeded":
            self._store.end_attempt(
                job.id,
                job.attempt,
                AttemptEnd(
                    AttemptStatus.SUCCEEDED,
                    None,
                    JobStatus.SUCCEEDED,
                    result=result,
                    steps=self._steps(job, failed=False),
                    stored_bytes=self._stored_bytes(job, result),
                ),
            )
            log.info("job_succeeded", job=job.id, attempt=job.attempt, students=len(result.students))
            return
        if ray is not None:
            self._keep_log(job, ray)
        error = result.error or ErrorDocument(code="internal", message="The run failed and did not say why.")
        retry = error.code in RETRIED_CODES
        self._fail(job, AttemptStatus.FAILED, error, retry=retry, result=result)

    def _blames_ray(self, job: Job, result: ResultDocument, ray: RayJobs | None) -> bool:
        """Whether the death of Ray may have caused a run's failure: Ray does not answer, or does not know the run."""
        if result.error is None or result.error.code not in {"internal", "lost"}:
            return False
        attempt = job.latest
        assert attempt is not None
        try:
            return ray is None or ray.get(attempt.submission_id) is None
        except RayUnreachableError:
            return True

    def _lose_ray(self, job: Job, message: str) -> None:
        """End an attempt that was lost with Ray; such losses are not failures, and have a limit of their own."""
        losses, most = job.ray_losses + 1, self._policy.max_ray_losses
        message = (
            f"{message} This does not count as a failure of the job. Ray has died under it {losses} times, of {most} "
            "at most."
        )
        if losses >= most:
            self._fail(job, AttemptStatus.RAY_LOST, ErrorDocument(code="lost", message=message), retry=False)
            return
        self._store.end_attempt(
            job.id,
            job.attempt,
            AttemptEnd(
                AttemptStatus.RAY_LOST,
                message,
                JobStatus.QUEUED,
                not_before=datetime.now(UTC) + self._policy.wait(losses),
                stored_bytes=self._stored_bytes(job),
            ),
        )
        log.warning("ray_lost", job=job.id, attempt=job.attempt, reason=message)

    def _lose(self, job: Job, message: str) -> None:
        self._fail(job, AttemptStatus.LOST, ErrorDocument(code="lost", message=message), retry=True)

    def _fail(
        self,
        job: Job,
        status: AttemptStatus,
        error: ErrorDocument,
        *,
        retry: bool,
        result: ResultDocument | None = None,
    ) -> None:
        failures = job.failures + 1
        if retry and failures < self._policy.max_attempts:
            wait = self._policy.wait(failures, error.code)
            self._store.end_attempt(
                job.id,
                job.attempt,
                AttemptEnd(
                    status,
                    error.message,
                    JobStatus.QUEUED,
                    not_before=datetime.now(UTC) + wait,
                    stored_bytes=self._stored_bytes(job, result),
                ),
            )
            log.warning("attempt_failed", job=job.id, attempt=job.attempt, error=error.message, retry_in=str(wait))
            return
        self._store.end_attempt(
            job.id,
            job.attempt,
            AttemptEnd(
                status,
                error.message,
                JobStatus.FAILED,
                result=ResultDocument(status="failed", error=error),
                steps=self._steps(job, failed=True),
                stored_bytes=self._stored_bytes(job, result),
            ),
        )
        log.warning("job_failed", job=job.id, attempt=job.attempt, code=error.code, error=error.message)

    def _end_cancelled(self, job: Job) -> None:
        self._store.end_attempt(
            job.id,
            job.attempt,
            AttemptEnd(
                AttemptStatus.CANCELLED,
                "It was cancelled by request.",
                JobStatus.CANCELLED,
                steps=self._steps(job, failed=True),
                stored_bytes=self._stored_bytes(job),
            ),
        )
        log.info("job_cancelled", job=job.id, attempt=job.attempt)

    def _last_words(self, job: Job, ray: RayJobs, status: str) -> str:
        """Keep the driver's output and give its last line."""
        text = self._keep_log(job, ray)
        if text is None:
            return f"The run ended without a result (Ray says {status})."
        last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it wrote nothing")
        return f"The run ended without a result (Ray says {status}): {last[:300]} (all output: {self._log_path(job)})"

    def _keep_log(self, job: Job, ray: RayJobs) -> str | None:
        """Keep the driver's output in the attempt's folder, for when Ray no longer has it; None if that fails."""
        attempt = job.latest
        assert attempt is not None
        try:
            text = fetch_log(attempt, ray) or ""
            self._storage.write_bytes(self._log_path(job), text.encode())
        except (RayUnreachableError, OSError) as error:
            log.warning("driver_log_not_kept", job=job.id, attempt=attempt.number, error=str(error))
            return None
        return text

    def _log_path(self, job: Job) -> str:
        return self._folder(job).path(DRIVER_LOG, job.attempt)

    def _read_result(self, job: Job) -> ResultDocument | None:
        try:
            return self._folder(job).read_result(job.attempt)
        except ValidationError as error:
            message = f"The result of attempt {job.attempt} cannot be read: {error.errors()[0]['msg']}."
            return ResultDocument(status="failed", error=ErrorDocument(code="internal", message=message))

    def _steps(self, job: Job, *, failed: bool) -> list[StepDocument]:
        """Return the attempt's last steps; if it failed, its running steps have failed."""
        progress = self._progress(job)
        steps = progress.steps if progress else []
        if not failed:
            return steps
        ended = {"status": "failed", "rate": None, "seconds_left": None, "silent_seconds": None}
        return [step.model_copy(update=ended) if step.status == "running" else step for step in steps]

    def _stored_bytes(self, job: Job, result: ResultDocument | None = None) -> int | None:
        """Return the bytes that the job has stored, from its result, else from its attempt's progress."""
        if result is not None and result.stored_bytes is not None:
            return result.stored_bytes
        try:
            progress = self._progress(job)
        except OSError:  # an unreachable storage must not block ending the attempt
            return None
        return progress.stored_bytes if progress else None

    def _progress(self, job: Job) -> ProgressDocument | None:
        try:
            return self._folder(job).read_progress(job.attempt)
        except ValidationError:
            return None

    def _folder(self, job: Job) -> JobFolder:
        return JobFolder(self._storage, job.id)
