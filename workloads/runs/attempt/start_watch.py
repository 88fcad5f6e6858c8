"""Watch over the start of a Ray Tune run's trials."""

from __future__ import annotations

from typing import Any

from ray import tune

from workloads.runs.attempt.room_watch import RoomWatch


class StartWatch(tune.Callback):  # type: ignore[misc]
    """Callback of Tune that reports why the first trial waits, and ends a run that has room and does not start.

    Args:
        watch: Of a trial's needs.
    """

    def __init__(self, watch: RoomWatch) -> None:
        self._watch: RoomWatch | None = watch

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles callbacks for a restore, which we never do; listeners may hold locks, which cannot be pickled.
        return {"_watch": None}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Note that a trial has its actor."""
        self.close()
        self._watch = None

    def on_step_begin(self, iteration: int, trials: list[Any], **_: Any) -> None:
        """Check for room.

        Raises:
            NotStartedError: There has been room for too long without a started trial.
        """
        if self._watch is not None:
            self._watch.look()

    def close(self) -> None:
        """End the wait."""
        if self._watch is not None:
            self._watch.close()
