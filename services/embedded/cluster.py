"""The Ray that runs go to: one of our own as a child process, or one that is there. Neither keeps anyone waiting."""

from __future__ import annotations

import subprocess
import threading
import time
from dataclasses import dataclass
from typing import Literal, Protocol

import structlog

from services.embedded.head import HeadOptions, agent_listens, end_head, log_tail, read_token, start_head
from services.embedded.record import HeadRecord
from services.jobs.ray_jobs import RayJobs, RayUnreachableError

START_SECONDS = 120.0
# A busy two-core machine can keep the dashboard from answering for long; the process is the surer sign of life.
SILENT_SECONDS = 90.0
_PROBE_SECONDS = 5.0
_LOOK_SECONDS = 1.0
_MAX_PAUSE_SECONDS = 30.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether runs can be started, in a word and in a sentence."""

    state: Literal["starting", "ready", "unavailable", "stopped"]
    note: str

    @property
    def ready(self) -> bool:
        """Whether Ray takes jobs now."""
        return self.state == "ready"


class RayCluster(Protocol):
    """A Ray that comes and goes beside the service."""

    def start(self) -> None:
        """Begin to look after it, in the background."""

    def close(self) -> None:
        """Stop looking after it; an embedded one is ended."""

    def jobs(self) -> RayJobs | None:
        """The Jobs API while Ray answers, else None."""

    def readiness(self) -> Readiness:
        """Whether it answers, and why not; from memory, at once."""


class _Watched:
    """A thread that keeps the readiness, and the client that goes with it."""

    def __init__(self, note: str) -> None:
        self._readiness = Readiness("starting", note)
        self._jobs: RayJobs | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ray-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def jobs(self) -> RayJobs | None:
        return self._jobs if self._readiness.ready else None

    def readiness(self) -> Readiness:
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
    """A Ray cluster that someone else runs.

    Args:
        url: Its dashboard.
        token: Its token, if it asks for one.
    """

    def __init__(self, url: str, token: str | None) -> None:
        super().__init__(f"Ray at {url} has not answered yet.")
        self._jobs = RayJobs(url, token)

    def close(self) -> None:
        """Stop looking after it; it goes on."""
        self._join()

    def _watch(self) -> None:
        assert self._jobs is not None
        while not self._closing.is_set():
            try:
                version = self._jobs.version(timeout=_PROBE_SECONDS)
                self._say(Readiness("ready", f"Ray {version} at {self._jobs.url}."))
            except RayUnreachableError as error:
                self._say(Readiness("unavailable", str(error)))
            self._closing.wait(2 * _LOOK_SECONDS)


class EmbeddedRay(_Watched):
    """A Ray head of our own: found again if it lives, started if not, replaced when it dies.

    Args:
        options: How to start it.
    """

    def __init__(self, options: HeadOptions) -> None:
        super().__init__("Ray is starting.")
        self._options = options
        self._record: HeadRecord | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """End it and everything it has started."""
        self._join()
        record = self._record or HeadRecord.load(self._options.state)
        if record is not None:
            end_head(self._options.state, record)
        self._reap()
        log.info("ray_ended")

    def _watch(self) -> None:
        pause = 1.0
        while not self._closing.is_set():
            try:
                self._bring_up()
                pause = 1.0
                self._follow()
            except Exception as error:  # whatever it was, trying again is all there is to do
                log.error("ray_failed", error=str(error), output=log_tail(self._options.state))
                self._say(Readiness("unavailable", f"Ray failed and is being started anew: {error}"))
                self._clear()
                self._closing.wait(pause)
                pause = min(2 * pause, _MAX_PAUSE_SECONDS)

    def _bring_up(self) -> None:
        """Adopt the living head of the record or start one, and wait until it answers."""
        self._record = HeadRecord.load(self._options.state)
        adopted = self._record is not None and self._record.process_lives
        if not adopted:
            self._clear()
            self._record, self._child = start_head(self._options)
        assert self._record is not None
        self._jobs = RayJobs(self._record.dashboard_url, read_token(self._options))
        deadline = time.monotonic() + START_SECONDS
        while not self._closing.is_set():
            try:
                version = self._jobs.version(timeout=_PROBE_SECONDS)
                if not agent_listens(self._record):
                    raise RayUnreachableError("Its job agent does not listen.")
            except RayUnreachableError:
                self._require_process()
                if time.monotonic() > deadline:
                    raise
                self._closing.wait(0.2)
                continue
            log.info("ray_adopted" if adopted else "ray_ready", pid=self._record.pid, version=version)
            self._say(Readiness("ready", f"Embedded Ray {version}, {'found again' if adopted else 'started'}."))
            return

    def _follow(self) -> None:
        """Return when the service closes; raise when the head has died."""
        assert self._jobs is not None
        answered = time.monotonic()
        while not self._closing.wait(_LOOK_SECONDS):
            self._require_process()
            try:
                self._jobs.version(timeout=_PROBE_SECONDS)
                answered = time.monotonic()
            except RayUnreachableError:
                if time.monotonic() - answered > SILENT_SECONDS:
                    raise

    def _require_process(self) -> None:
        self._reap()
        if self._record is None or not self._record.process_lives:
            raise RayUnreachableError("Its process has ended.")

    def _clear(self) -> None:
        """End what is left of the head of the record."""
        if self._record is not None:
            end_head(self._options.state, self._record)
        self._reap()
        self._record = None

    def _reap(self) -> None:
        if self._child is not None and self._child.poll() is not None:
            self._child = None
