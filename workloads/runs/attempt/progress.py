"""Progress of a run, kept in memory and written to the job's folder by a thread of its own.

The work never waits for the storage. If a write fails, the next one catches up.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

import structlog

from workloads.documents.job_folder import EventDocument, JobFolder, ProgressDocument, StepDocument, now
from workloads.documents.pace import WINDOW_SECONDS

LOCAL_SECONDS = 0.5
REMOTE_SECONDS = 2.0
CURVE_POINTS = 200
"""Most points of a curve that are kept as events."""

_log = structlog.get_logger(__name__)


@dataclass
class _Step:
    name: str
    status: Literal["pending", "running", "succeeded", "failed"] = "pending"
    done: int = 0
    total: int | None = None
    unit: str = ""
    reused: bool = False
    note: str | None = None
    advanced_at: str | None = None
    recent: deque[tuple[float, int]] = field(default_factory=deque)
    drawn: int | None = None  # value of `done` at the curve's last point

    def document(self) -> StepDocument:
        rate, left = self._rate(), None
        if rate and self.total is not None and self.status == "running":
            left = max(0, self.total - self.done) / rate
        return StepDocument(
            name=self.name, status=self.status, done=self.done, total=self.total, unit=self.unit, rate=rate,
            seconds_left=left, advanced_at=self.advanced_at, reused=self.reused, note=self.note,
        )  # fmt: skip

    def _rate(self) -> float | None:
        if len(self.recent) < 2:
            return None
        (start, first), (end, last) = self.recent[0], self.recent[-1]
        return (last - first) / (end - start) if end > start else None


class Progress:
    """The steps and events of one attempt; any thread may call it.

    Use it as a context manager: it writes in the background and once more at the end.

    Args:
        folder: The job's folder.
        attempt: Number of the attempt.
        clock: A monotonic clock in seconds, for the rates.
    """

    def __init__(self, folder: JobFolder, attempt: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._attempt = attempt
        self._clock = clock
        self._period = LOCAL_SECONDS if folder.storage.local else REMOTE_SECONDS
        self._steps: dict[str, _Step] = {}
        self._events: list[EventDocument] = []
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._stored_bytes: int | None = None
        self._steps_changed = self._events_changed = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._thread.join()
        self.flush()

    def declare(self, names: Sequence[str]) -> None:
        """Declare the steps, in their order."""
        with self._lock:
            assert not self._steps, "The steps are declared once."
            self._steps = {name: _Step(name) for name in names}
            self._steps_changed = True

    def start(self, name: str, total: int | None = None, unit: str = "") -> None:
        """Begin a step of ``total`` units (None if unknown); calling it again is allowed."""
        with self._change(name) as step:
            step.status, step.total, step.unit, step.advanced_at = "running", total, unit, now()

    def advance(self, name: str, done: int, total: int | None = None) -> None:
        """Set how many units of a step are done, counted from its start."""
        with self._change(name) as step:
            step.status, step.done, step.advanced_at = "running", done, now()
            step.total = step.total if total is None else total
            time_now = self._clock()
            step.recent.append((time_now, done))
            while len(step.recent) > 2 and step.recent[0][0] < time_now - WINDOW_SECONDS:
                step.recent.popleft()

    def note(self, name: str, note: str | None) -> None:
        """Set the remark on a step, or remove it."""
        with self._change(name) as step:
            step.note = note

    def wait(self, name: str, why: str | None) -> None:
        """Set the reason that a step waits for, None when it continues. Waiting time does not count in the rate."""
        with self._change(name) as step:
            step.note = why
            step.recent.clear()

    def finish(self, name: str, *, reused: bool = False) -> None:
        """Mark a step as done. It counts as reused only if all its results were reused."""
        with self._change(name) as step:
            step.status, step.reused = "succeeded", step.reused and reused
            step.done = step.total if step.total is not None else step.done

    def reuse(self, name: str) -> None:
        """Mark a step as done whose result existed already."""
        with self._change(name) as step:
            step.status, step.reused = "succeeded", True
            step.done = step.total if step.total is not None else step.done
        self.event("reused", f"{name}: finished earlier, used again.", step=name)

    def stored(self, count: int) -> None:
        """Set how many bytes the job's attempts have written to the storage in all."""
        with self._lock:
            self._stored_bytes, self._steps_changed = count, True

    def fail(self, message: str) -> None:
        """Mark the running steps as failed."""
        with self._lock:
            for step in self._steps.values():
                if step.status == "running":
                    step.status = "failed"
            self._steps_changed = True
        self.event("failed", message)

    def event(self, type: str, message: str, **data: Any) -> None:
        """Add an event; ``data`` is JSON-like."""
        with self._lock:
            document = EventDocument(
                sequence=len(self._events) + 1, time=now(), type=type, message=message, data=data
            )  # fmt: skip
            self._events.append(document)
            self._events_changed = True

    def point(self, name: str, done: int, total: int, metrics: dict[str, float]) -> None:
        """Add a point to a step's curve (an event ``metrics``); points too close to the last one are dropped."""
        with self._change(name) as step:
            if step.drawn is not None and done < total and (done - step.drawn) * CURVE_POINTS < total:
                return
            step.drawn, unit = done, step.unit
        self.event("metrics", name, step=name, done=done, total=total, unit=unit, **metrics)

    def flush(self) -> None:
        """Write all changes now. A failed write is logged and repeated by the next flush."""
        with self._writing:
            with self._lock:
                steps = [step.document() for step in self._steps.values()] if self._steps_changed else None
                events = list(self._events) if self._events_changed else None
                stored = self._stored_bytes
                self._steps_changed = self._events_changed = False
            try:
                if events is not None:
                    self._folder.write_events(self._attempt, events)
                if steps is not None:
                    document = ProgressDocument(updated_at=now(), steps=steps, stored_bytes=stored)
                    self._folder.write_progress(self._attempt, document)
            except OSError as error:
                with self._lock:
                    self._steps_changed |= steps is not None
                    self._events_changed |= events is not None
                _log.warning("progress_not_written", error=str(error))

    @contextlib.contextmanager
    def _change(self, name: str) -> Iterator[_Step]:
        with self._lock:
            self._steps_changed = True
            yield self._steps[name]

    def _run(self) -> None:
        while not self._closing.wait(self._period):
            self.flush()
