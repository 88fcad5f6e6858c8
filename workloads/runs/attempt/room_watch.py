"""Watch over work that Ray starts itself, such as Ray Tune and Ray Data: they wait for resources silently, for ever."""

from __future__ import annotations

import time
from collections.abc import Callable

from cluster.launching import Room
from cluster.room import START_SECONDS, OnWait, Reservation, not_started
from cluster.sizing import Needs

_PROBE_SECONDS = 10.0
"""Seconds between checks for room; most work has started before the first check."""


class RoomWatch:
    """Reports why work does not start, and ends a run that has room and does not start.

    Args:
        needs: Needs of a worker.
        on_wait: Called with the reason of a wait, and with None at its end.
        reserve: Requests the room of a worker.
        clock: A monotonic clock in seconds.
    """

    def __init__(
        self,
        needs: Needs,
        on_wait: OnWait,
        reserve: Callable[[Needs], Room] = lambda needs: Reservation([needs]),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._needs, self._on_wait = needs, on_wait
        self._reserve, self._clock = reserve, clock
        self._probe: Room | None = None
        self._seen = self._probed = clock()
        self._fruitless = 0.0  # seconds with room but without a start
        self._told: str | None = None

    def look(self) -> None:
        """Check for room, while nothing has started.

        Raises:
            NotStartedError: There has been room for too long without a start.
        """
        now = self._clock()
        passed, self._seen = now - self._seen, now
        if self._probe is None and now - self._probed >= _PROBE_SECONDS:
            self._probe = self._reserve(self._needs)
        if self._probe is None:
            self._fruitless += passed
        elif self._probe.granted(0):
            self.close()
            self._probed = now
        else:
            self._tell(self._probe.wait)
            self._fruitless = 0.0 if self._told else self._fruitless
        if self._fruitless > START_SECONDS:
            raise not_started(self._needs)

    def started(self) -> None:
        """Note that work goes on; the next :meth:`look` begins another wait."""
        self.close()
        self._seen = self._probed = self._clock()
        self._fruitless = 0.0

    def close(self) -> None:
        """End the wait."""
        if self._probe is not None:
            self._probe.release()
            self._probe = None
        self._tell(None)

    def _tell(self, why: str | None) -> None:
        if why != self._told:
            self._told = why
            self._on_wait(why)
