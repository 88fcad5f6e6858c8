"""Watching that the trials of a Ray Tune run start: Tune itself waits for room without a word and without an end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ray import tune

from cluster.launching import Room
from cluster.room import START_SECONDS, OnWait, Reservation, not_started
from cluster.sizing import Needs

_PROBE_SECONDS = 10.0
"""Between looks at whether there is room; most trials have started before the first."""


class StartWatch(tune.Callback):  # type: ignore[misc]
    """Says what the first trial waits for, and ends a run that has room and does not start.

    Args:
        needs: Of a trial.
        on_wait: Told what is waited for, and None when the wait is over.
        reserve: Asks for the room of a trial.
        clock: Seconds, growing.
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
        self._fruitless = 0.0  # seconds for which there was room and no trial started
        self._told: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles the callbacks for a restore, which we never ask for; what listens may hold locks.
        return {"_started": True}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A trial has its actor."""
        self._started = True
        self.close()

    def on_step_begin(self, iteration: int, trials: list[Any], **_: Any) -> None:
        """Look at whether there is room.

        Raises:
            NotStartedError: There was for long, and no trial has started.
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
        """Wait for nothing any more."""
        if self._probe is not None:
            self._probe.release()
            self._probe = None
        self._tell(None)

    def _tell(self, why: str | None) -> None:
        if why != self._told:
            self._told = why
            self._on_wait(why)
