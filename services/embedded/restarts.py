"""Restart policy of the embedded Ray: time limits of a start, pauses, and the limit of failures."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

START_SECONDS, MAX_START_SECONDS = 120.0, 960.0
"""Time limit of the first start; each failure doubles it, up to the maximum."""
PAUSE_SECONDS, MAX_PAUSE_SECONDS = 1.0, 300.0
"""Pause after the first failure; each further failure doubles it, up to the maximum."""
SETTLE_SECONDS, MAX_SETTLE_SECONDS = 2.0, 32.0
"""Time that a new head must answer before it counts as ready; each failure doubles it, up to the maximum."""
SILENT_SECONDS, MAX_SILENT_SECONDS = 90.0, 720.0
"""Longest silence of a head whose process lives; each failure doubles it, up to the maximum."""
STABLE_SECONDS = 300.0
"""A head that was ready for this long resets the count of failures."""
GIVE_UP_FAILURES, GIVE_UP_SECONDS = 8, 1800.0
"""Number of failures in a row, over at least this time, after which no head is started any more."""


class Restarts:
    """Count of failed starts and early deaths, and the time limits that follow from it.

    Args:
        clock: A monotonic clock in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first_failure = 0.0
        self._ready_since: float | None = None
        self.failures = 0

    def ready(self) -> None:
        """Record that a head has become ready."""
        self._ready_since = self._clock()

    def failed(self) -> None:
        """Record that a start has failed, or that a head has died."""
        stable = self._ready_since is not None and self._clock() - self._ready_since >= STABLE_SECONDS
        self._ready_since = None
        self.failures = 1 if stable else self.failures + 1
        if self.failures == 1:
            self._first_failure = self._clock()

    @property
    def seconds(self) -> float:
        """Time since the first failure in a row."""
        return self._clock() - self._first_failure if self.failures else 0.0

    @property
    def exhausted(self) -> bool:
        """Whether the limit of failures is reached."""
        return self.failures >= GIVE_UP_FAILURES and self.seconds >= GIVE_UP_SECONDS

    @property
    def pause_seconds(self) -> float:
        """Pause before the next start."""
        return min(MAX_PAUSE_SECONDS, PAUSE_SECONDS * 2.0 ** max(0, self.failures - 1))

    @property
    def start_seconds(self) -> float:
        """Time limit of the next start."""
        return min(MAX_START_SECONDS, START_SECONDS * 2.0**self.failures)

    @property
    def settle_seconds(self) -> float:
        """Time that a head must answer before it counts as ready."""
        return min(MAX_SETTLE_SECONDS, SETTLE_SECONDS * 2.0**self.failures)

    @property
    def silent_seconds(self) -> float:
        """Time that a living head may stay silent."""
        return min(MAX_SILENT_SECONDS, SILENT_SECONDS * 2.0**self.failures)


def load_note(load: float | None = None, cpus: int | None = None) -> str:
    """Return a note if the machine is busy, which may be the cause of a failure; else an empty text."""
    load = os.getloadavg()[0] if load is None else load
    cpus = cpus or os.cpu_count() or 1
    return f" The machine is busy: load {load:.0f} on {cpus} CPUs." if load > 1.5 * cpus else ""
