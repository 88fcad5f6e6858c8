"""Roads of the methods: the part of a method that runs from the teacher to the scores, and its estimate.

A road imports torch and Ray, so it is imported only by a run that needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workloads.answers.trained import Trained
    from workloads.documents.job_folder import PlanDocument
    from workloads.runs.attempt.attempt import Attempt


@dataclass(frozen=True)
class Road:
    """Part of a method that needs torch and Ray.

    Attributes:
        to_scores: Runs a compression from the teacher to the scores table.
        plan: Estimates a compression.
    """

    to_scores: Callable[[Attempt], Trained]
    plan: Callable[[Attempt], PlanDocument]


def register_road(method: str, load: Callable[[], Road]) -> None:
    """Register the road of a method; ``load`` is called when a run needs it."""
    _ROADS[method] = load


def road_of(method: str) -> Road:
    """Return the road of a method."""
    return _ROADS[method]()


def _autodistil() -> Road:
    from workloads.methods.autodistil import autodistil
    from workloads.runs.plans.planning import plan
    from workloads.runs.stages.training import StoredTraining

    return Road(lambda attempt: autodistil(StoredTraining(attempt)), plan)


_ROADS: dict[str, Callable[[], Road]] = {"autodistil": _autodistil}
