"""Rate and time left of a running step as of now: while no progress is reported, the rate decays, the time grows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workloads.documents.job_folder import StepDocument

WINDOW_SECONDS = 30.0
"""Seconds that a rate is averaged over."""
NEWS_SECONDS = 5.0
"""Age up to which a report needs no correction: writing and reading it may take that long."""


def at_present(step: StepDocument, moment: datetime) -> StepDocument:
    """Correct the rate and the time left of a step to a moment, by the age of its last advance.

    The rate is averaged over the window and the silence after it together, so it goes to zero without progress.
    """
    if step.status != "running" or step.advanced_at is None:
        return step
    try:
        silent = max(0.0, (moment - _time(step.advanced_at)).total_seconds())
    except ValueError:  # written by another version
        return step
    late = max(0.0, silent - NEWS_SECONDS)
    slower = WINDOW_SECONDS / (WINDOW_SECONDS + late)
    return step.model_copy(
        update={
            "silent_seconds": round(silent, 1),
            "rate": None if step.rate is None else step.rate * slower,
            "seconds_left": None if step.seconds_left is None else step.seconds_left / slower,
        }
    )


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
