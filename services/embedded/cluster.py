"""The Ray that runs use: an embedded child process or an existing cluster; no call here blocks on Ray."""

from __future__ import annotations

import subprocess
import threading
import time
from dataclasses import dataclass
from typing import Literal, Protocol

import structlog
from typing_extensions import override

from services.embedded.head import (
    LOG_FILE,
    HeadOptions,
    agent_listens,
    end_head,
    log_tail,
    read_token,
    start_has_finished,
    start_head,
)
from services.embedded.record import HeadRecord
from services.embedded.restarts import Restarts, load_note
from services.jobs.ray_jobs import RayJobs, RayUnreachableError

_PROBE_SECONDS = 5.0
_LOOK_SECONDS = 2.0
_START_LOOK_SECONDS = 0.2
_TOLD_SECONDS = 15.0
"""Interval of log entries with the reason while a start or a silence lasts."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether runs can be started: a state and a note that explains it."""

    state: Literal["starting", "ready", "unavailable", "stopped"]
    note: str
    given_up: bool = False
    """Whether the state lasts until the service is restarted."""

    @property
    def ready(self) -> bool:
        """Whether Ray takes jobs now."""
        return self.state == "ready"


class RayCluster(Protocol):
    """Ray cluster that may start, fail and come back while the service runs."""

    def start(self) -> None:
        """Start to watch Ray, in the background."""

    def close(self) -> None:
        """Stop watching Ray; an embedded one is ended."""

    def jobs(self) -> RayJobs | None:
        """The Jobs API while Ray answers, else None."""

    def readiness(self) -> Readiness:
        """Whether Ray answers, and if not, why; from memory, without waiting."""


class _Watched:
    """Thread that watches Ray, and keeps its readiness and client."""

    def __init__(self, note: str) -> None:
        self._readiness = Readiness("starting", note)
        self._jobs: RayJobs | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ray-watch", daemon=True)

    def start(self) -> None:
        """Start to watch Ray, in the background."""
        self._thread.start()

    def jobs(self) -> RayJobs | None:
        """Return the Jobs API while Ray answers, else None."""
        return self._jobs if self._readiness.ready else None

    def readiness(self) -> Readiness:
        """Return whether Ray answers, from memory."""
        return self._readiness

    def _watch(self) -> None:
        raise NotImplementedError

    def _say(self, readiness: Readiness) -> None:
        if readiness != self._readiness:
            log.info("ray_readiness", state=readiness.state, note=readiness.note)
        self._readiness = readiness

    def _join(self) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self._say(Readiness("stopped", "The service is stopping."))


class ExistingRay(_Watched):
    """A Ray cluster that this service does not run.

    Args:
        url: URL of its dashboard.
        token: Its token, if it requires one.
    """

    def __init__(self, url: str, token: str | None) -> None:
        super().__init__(f"Ray at {url} has not answered yet.")
        self._jobs = RayJobs(url, token)

    def close(self) -> None:
        """Stop watching the cluster, which keeps running."""
        self._join()

    @override
    def _watch(self) -> None:
        assert self._jobs is not None
        while not self._closing.is_set():
            try:
                version = self._jobs.version(timeout=_PROBE_SECONDS)
                self._say(Readiness("ready", f"Ray {version} at {self._jobs.url}."))
            except RayUnreachableError as error:
                self._say(Readiness("unavailable", str(error)))
            self._closing.wait(_LOOK_SECONDS)


class EmbeddedRay(_Watched):
    """Ray head of the service: adopted if it already runs, else started, and replaced when it dies.

    Each failure extends the limits: of the next start, of the pause before it, and of the time that the head must
    answer before it counts as ready. After many failures over a long time, no head is started any more.

    Args:
        options: Options of the head.
        restarts: The restart policy.
    """

    def __init__(self, options: HeadOptions, restarts: Restarts | None = None) -> None:
        super().__init__("Ray is starting.")
        self._options = options
        self._restarts = restarts or Restarts()
        self._record: HeadRecord | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """End the head and all processes that it has started."""
        self._join()
        record = self._record or HeadRecord.load(self._options.state)
        if record is not None:
            end_head(self._options.state, record)
        self._reap()
        log.info("ray_ended")

    @override
    def _watch(self) -> None:
        while not self._closing.is_set():
            try:
                self._bring_up()
                self._follow()
            except Exception as error:  # another start may fix any error
                self._restarts.failed()
                log.error(
                    "ray_failed",
                    error=str(error),
                    failures=self._restarts.failures,
                    output=log_tail(self._options.state),
                )
                self._clear()
                self._say(self._after_failure(error))
                if self._readiness.given_up:
                    return
                self._closing.wait(self._restarts.pause_seconds)

    def _after_failure(self, error: Exception) -> Readiness:
        restarts, log_file = self._restarts, self._options.state / LOG_FILE
        if restarts.exhausted:
            note = (
                f"Ray has failed {restarts.failures} times in {restarts.seconds / 60:.0f} minutes and is not started "
                f"again. The last error: {error}{load_note()} Ray's output is in {log_file}. "
                "Free CPU and memory on this machine, then restart stillroom."
            )
            return Readiness("unavailable", note, given_up=True)
        count = f" for the {restarts.failures}th time" if restarts.failures > 3 else ""
        note = f"Ray has failed{count} and is started again in {restarts.pause_seconds:.0f} s: {error}{load_note()}"
        return Readiness("unavailable", note)

    def _bring_up(self) -> None:
        """Adopt the recorded head if it lives, else start one, and wait until it is ready."""
        self._record = HeadRecord.load(self._options.state)
        adopted = self._record is not None and self._record.process_lives
        if not adopted:
            self._clear()
            self._record, self._child = start_head(self._options)
        assert self._record is not None
        self._jobs = RayJobs(self._record.dashboard_url, read_token(self._options), self._options.current_dir)
        settle = 0.0 if adopted else self._restarts.settle_seconds
        began = told = time.monotonic()
        answered: float | None = None
        while not self._closing.is_set():
            trouble, now = self._trouble(), time.monotonic()
            if trouble is None:
                answered = now if answered is None else answered
                if now - answered >= settle:
                    break
            else:
                answered = None
            self._require_process()
            if now - began > self._restarts.start_seconds:
                raise RayUnreachableError(f"Its start has not finished in {now - began:.0f} s: {trouble}")
            if now - told > _TOLD_SECONDS:
                reason = f": {trouble}" if trouble else "."
                self._say(Readiness("starting", f"Ray is starting, for {now - began:.0f} s now{reason}{load_note()}"))
                told = now
            self._closing.wait(_START_LOOK_SECONDS)
        else:
            return
        self._restarts.ready()
        version = self._jobs.version(timeout=_PROBE_SECONDS)
        log.info("ray_adopted" if adopted else "ray_ready", pid=self._record.pid, version=version)
        self._say(Readiness("ready", f"Embedded Ray {version}, {'already running' if adopted else 'started'}."))

    def _trouble(self) -> str | None:
        """The reason why the head cannot take jobs now; None if it can."""
        assert self._record is not None and self._jobs is not None
        if not start_has_finished(self._options.state, self._record):
            return "`ray start` has not finished."
        try:
            self._jobs.version(timeout=_PROBE_SECONDS)
        except RayUnreachableError as error:
            return str(error)
        return None if agent_listens(self._record) else "Its job agent does not accept connections."

    def _follow(self) -> None:
        """Watch the head until the service closes; raise if it has died or has been silent for too long."""
        ready, answered = self._readiness, time.monotonic()
        while not self._closing.wait(_LOOK_SECONDS):
            self._require_process()
            trouble, now = self._trouble(), time.monotonic()
            silent = now - answered
            if trouble is None:
                answered = now
                self._say(ready)
            # On a busy machine a head may not answer for a long time; while its process lives, wait longer.
            elif silent > self._restarts.silent_seconds:
                raise RayUnreachableError(f"It has not answered for {silent:.0f} s: {trouble}")
            elif silent > _TOLD_SECONDS and self._readiness == ready:
                self._say(
                    Readiness("unavailable", f"Ray does not answer, but its process lives: {trouble}{load_note()}")
                )

    def _require_process(self) -> None:
        self._reap()
        if self._record is None or not self._record.process_lives:
            last = next((line for line in reversed(log_tail(self._options.state).splitlines()) if line.strip()), "")
            raise RayUnreachableError(f"Its process has ended. Its last output: {last.strip()[:200] or 'none'}.")

    def _clear(self) -> None:
        """End the remaining processes of the recorded head."""
        if self._record is not None:
            end_head(self._options.state, self._record)
        self._reap()
        self._record = None

    def _reap(self) -> None:
        if self._child is not None and self._child.poll() is not None:
            self._child = None
