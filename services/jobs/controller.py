"""The controller: a thread that looks at all unfinished jobs again and again and moves each on.

Work for a job runs in a small pool, one piece a job at a time, so that a slow answer for one (a submission can
take a minute) does not keep a cancellation of another waiting.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import structlog

from services.embedded.cluster import RayCluster
from services.jobs.ray_jobs import RayUnreachableError
from services.jobs.records import Job
from services.jobs.runner import Runner
from services.jobs.states import JobStatus
from services.jobs.store import JobStore, TransitionError

# A driver that has written its result has this long to end by itself.
LINGER_SECONDS = 60.0

log = structlog.get_logger(__name__)


class Controller:
    """Looks after the jobs of a store.

    Args:
        store: The jobs.
        runner: What moves one on.
        cluster: The Ray they run on.
        max_running: Jobs that run at the same time.
        poll_seconds: Time between two looks.
        only: Look after this job alone.
    """

    def __init__(
        self,
        store: JobStore,
        runner: Runner,
        cluster: RayCluster,
        *,
        max_running: int,
        poll_seconds: float,
        only: str | None = None,
    ) -> None:
        self._store = store
        self._runner = runner
        self._cluster = cluster
        self._max_running = max_running
        self._poll_seconds = poll_seconds
        self._only = only
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="controller", daemon=True)
        self._pool = ThreadPoolExecutor(max_workers=min(32, max_running + 4), thread_name_prefix="job")
        self._at_work: dict[str, Future[None]] = {}
        self._lingering: dict[str, float] = {}
        self._troubles: dict[str, str] = {}

    def start(self) -> None:
        """Begin, in the background."""
        self._thread.start()

    def wake(self) -> None:
        """Look now rather than at the next poll."""
        self._wake.set()

    def stop(self) -> None:
        """Take up nothing new; pieces of work that are under way go on."""
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def close(self, *, runs_have_ended: bool) -> None:
        """End for good, after :meth:`stop`.

        Args:
            runs_have_ended: Whether Ray was ended with the service, and all runs with it.
        """
        self._pool.shutdown(wait=True)
        if not runs_have_ended:
            return
        for job in self._jobs():
            if job.status in {JobStatus.RUNNING, JobStatus.CANCELLING}:
                self._guarded(job.id, self._runner.interrupt, job)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.clear()
            try:
                self._look()
            except Exception:  # a database that is locked or full now may be well at the next look
                log.exception("controller_look_failed")
            self._wake.wait(self._poll_seconds)

    def _look(self) -> None:
        # Ended work is dropped before the jobs are read, so that no job is moved on from what it was before.
        self._at_work = {name: work for name, work in self._at_work.items() if not work.done()}
        jobs = self._jobs()
        free = self._max_running - sum(job.status is not JobStatus.QUEUED for job in jobs)
        now = datetime.now(UTC)
        for job in jobs:
            if job.status is not JobStatus.QUEUED:
                self._put_to_work(job.id, self._move_on, job)
            elif free > 0 and self._cluster.jobs() and (job.not_before is None or job.not_before <= now):
                free -= 1
                self._put_to_work(job.id, self._move_on, job)
        for submission_id, deadline in list(self._lingering.items()):
            if time.monotonic() > deadline:
                self._put_to_work(submission_id, self._end_lingering, submission_id)

    def _jobs(self) -> list[Job]:
        return [job for job in self._store.unfinished() if self._only in {None, job.id}]

    def _put_to_work(self, name: str, work: Any, *arguments: Any) -> None:
        if name not in self._at_work:
            self._at_work[name] = self._pool.submit(self._guarded, name, work, *arguments)

    def _guarded(self, name: str, work: Any, *arguments: Any) -> None:
        """Do a piece of work; what goes wrong is logged once, and tried again at the next look."""
        try:
            work(*arguments)
            self._troubles.pop(name, None)
        except TransitionError as error:  # a cancellation came in between
            log.info("job_moved_on", job=name, detail=str(error))
        except (RayUnreachableError, OSError) as error:
            if self._troubles.get(name) != str(error):
                log.warning("job_waits", job=name, error=str(error))
            self._troubles[name] = str(error)
        except Exception as error:
            if self._troubles.get(name) != repr(error):
                log.exception("job_look_failed", job=name)
            self._troubles[name] = repr(error)

    def _move_on(self, job: Job) -> None:
        ray = self._cluster.jobs()
        if job.status is JobStatus.QUEUED:
            if ray is not None:
                self._runner.begin(job, ray)
        elif job.status is JobStatus.RUNNING:
            if self._runner.follow(job, ray) and job.latest is not None:
                self._lingering[job.latest.submission_id] = time.monotonic() + LINGER_SECONDS
        elif job.status is JobStatus.CANCELLING:
            self._runner.cancel(job, ray)

    def _end_lingering(self, submission_id: str) -> None:
        ray = self._cluster.jobs()
        if ray is None:
            return
        found = ray.get(submission_id)
        if found is None or found.status.is_terminal:
            self._lingering.pop(submission_id, None)
            return
        log.warning("driver_lingers", submission_id=submission_id)
        ray.stop(submission_id)
