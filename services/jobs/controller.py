"""The controller: a thread that polls all unfinished jobs and advances each of them.

The controllers of several services may share one database. Each works only on jobs on which it has a claim (see
:mod:`services.jobs.work`), and renews its claims while it lives.

The work on jobs runs in a small pool, one piece per job at a time. So a slow answer for one job (a submission can
take a minute) does not delay the cancellation of another.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import structlog

from services.embedded.cluster import RayCluster
from services.jobs.ray_jobs import RayUnreachableError
from services.jobs.records import Job
from services.jobs.rows import TransitionError, UnknownJobError
from services.jobs.runner import Runner
from services.jobs.states import JobStatus
from services.jobs.work import Limits, WorkStore

LINGER_SECONDS = 60.0
"""Time for a driver to end by itself after it has written its result."""
CLOSE_SECONDS = 10.0
"""Time that a stop waits for unfinished work; a Ray that does not answer may block work for a minute."""

log = structlog.get_logger(__name__)


class Controller:
    """Thread that advances the jobs of a store.

    Args:
        store: The jobs.
        runner: Advances one job.
        cluster: The Ray that they run on.
        limits: Limits of jobs that run at the same time.
        poll_seconds: Seconds between two polls.
        only: Id of the one job to work on; None for all.
    """

    def __init__(
        self,
        store: WorkStore,
        runner: Runner,
        cluster: RayCluster,
        *,
        limits: Limits,
        poll_seconds: float,
        only: str | None = None,
    ) -> None:
        self._store = store
        self._runner = runner
        self._cluster = cluster
        self._limits = limits
        self._poll_seconds = poll_seconds
        self._only = only
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="controller", daemon=True)
        # A separate thread, since a claim must not expire while a poll is blocked.
        self._heart = threading.Thread(target=self._renew, name="claims", daemon=True)
        self._pool = ThreadPoolExecutor(max_workers=min(32, limits.running + 4), thread_name_prefix="job")
        self._at_work: dict[str, Future[None]] = {}
        self._lingering: dict[str, float] = {}
        self._troubles: dict[str, str] = {}

    def start(self) -> None:
        """Start the threads."""
        self._thread.start()
        self._heart.start()

    def wake(self) -> None:
        """Poll now."""
        self._wake.set()

    def stop(self) -> None:
        """Start no new work; unfinished work continues."""
        self._closing.set()
        self._wake.set()
        for thread in (self._thread, self._heart):
            if thread.is_alive():
                thread.join()

    def close(self, *, runs_have_ended: bool) -> None:
        """Wait for unfinished work and release the claims; called after :meth:`stop`.

        Args:
            runs_have_ended: Whether Ray was ended with the service, and so all runs.
        """
        wait(self._at_work.values(), CLOSE_SECONDS)
        self._pool.shutdown(wait=False, cancel_futures=True)
        for job in self._store.runs(self._only) if runs_have_ended else []:
            self._guarded(job.id, self._interrupt, job)
        self._guarded("claims", self._store.release)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.clear()
            try:
                self._look()
            except Exception:  # a locked or full database may work at the next poll
                log.exception("controller_look_failed")
            self._wake.wait(self._poll_seconds)

    def _renew(self) -> None:
        while not self._closing.wait(self._store.claim_seconds / 3):
            self._guarded("claims", self._store.renew)

    def _look(self) -> None:
        # Forget finished work before the jobs are read, so that no job is advanced from an old state.
        self._at_work = {name: work for name, work in self._at_work.items() if not work.done()}
        for job in self._store.runs(self._only):
            self._put_to_work(job.id, self._move_on, job)
        while (ray := self._cluster.jobs()) and not self._closing.is_set():
            begun = self._store.start_next(self._limits, self._only)
            if begun is None:
                break
            self._put_to_work(begun.id, self._runner.submit, begun, ray)
        for submission_id, deadline in list(self._lingering.items()):
            if time.monotonic() > deadline:
                self._put_to_work(submission_id, self._end_lingering, submission_id)

    def _put_to_work(self, name: str, work: Any, *arguments: Any) -> None:
        if name not in self._at_work:
            self._at_work[name] = self._pool.submit(self._guarded, name, work, *arguments)

    def _guarded(self, name: str, work: Any, *arguments: Any) -> None:
        """Do a piece of work. An error is logged once; the next poll repeats the work."""
        try:
            work(*arguments)
            self._troubles.pop(name, None)
        except (TransitionError, UnknownJobError) as error:  # a person or another service has changed the job
            log.info("job_moved_on", job=name, detail=str(error))
        except (RayUnreachableError, OSError) as error:
            if self._troubles.get(name) != str(error):
                log.warning("job_waits", job=name, error=str(error))
            self._troubles[name] = str(error)
        except Exception as error:
            if self._troubles.get(name) != repr(error):
                log.exception("job_look_failed", job=name)
            self._troubles[name] = repr(error)

    def _move_on(self, seen: Job) -> None:
        job = self._store.claim(seen.id)
        if job is None:
            return
        ray = self._cluster.jobs()
        if job.status is JobStatus.CANCELLING:
            self._runner.cancel(job, ray)
        elif self._runner.follow(job, ray) and job.latest is not None:
            self._lingering[job.latest.submission_id] = time.monotonic() + LINGER_SECONDS

    def _interrupt(self, seen: Job) -> None:
        job = self._store.claim(seen.id)
        if job is not None:
            self._runner.interrupt(job)

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
