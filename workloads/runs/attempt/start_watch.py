"""Watch over the start of a Ray Tune run's trials, since Tune waits for resources silently and without limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ray import tune

from cluster.launching import Room
from cluster.room import START_SECONDS, OnWait, Reservation, not_started
from cluster.sizing import Needs

_PROBE_SECONDS = 10.0
"""Seconds between checks for room; most trials have started before the first check."""


class StartWatch(tune.Callback):  # type: ignore[misc]
    """Callback of Tune that reports why the first trial waits, and ends a run that has room and does not start.

    Args:
        needs: Needs of a trial.
        on_wait: Called with the reason of a wait, and with None at its end.
        reserve: Requests the room of a trial.
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
        self._started = False
        self._probe: Room | None = None
        self._seen = self._probed = clock()
        self._fruitless = 0.0  # seconds with room but without a started trial
        self._told: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles callbacks for a restore, which we never do; listeners may hold locks, which cannot be pickled.
        return {"_started": True}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Note that a trial has its actor."""
        self._started = True
        self.close()

    def on_step_begin(self, iteration: int, trials: list[Any], **_: Any) -> None:
        """Check for room.

        Raises:
            NotStartedError: There has been room for too long without a started trial.
        """
        if self._started:
            return
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
