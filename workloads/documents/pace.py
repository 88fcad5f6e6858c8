"""The pace of a running step as it is now: without news, its rate decays and its time left grows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workloads.documents.job_folder import StepDocument

WINDOW_SECONDS = 30.0
"""A rate is taken over so much time."""
NEWS_SECONDS = 5.0
"""News that is no older needs no correction: it takes as long to be written and read."""


def at_present(step: StepDocument, moment: datetime) -> StepDocument:
    """Give a step as it stands at a moment, by the age of its last advance.

    The rate is that of the window and the silence after it together, so that it goes to zero when nothing comes.
    """
    if step.status != "running" or step.advanced_at is None:
        return step
    try:
        silent = max(0.0, (moment - _time(step.advanced_at)).total_seconds())
    except ValueError:  # of another version
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
