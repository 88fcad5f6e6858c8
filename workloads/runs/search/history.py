"""The history of a search: what proposers learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workloads.runs.search.rules import Axes, Candidate


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate that was tried.

    Attributes:
        candidate: Which.
        axes: What it costs; see :func:`workloads.runs.search.rules.cost_axes`.
        loss: Mean over the rows it was scored on; None where it was not scored.
        survives: Whether it is still in.
        budgets: The numbers of the budgets that it may answer; empty where budgets are not the aim.
    """

    candidate: Candidate
    axes: Axes
    loss: float | None
    survives: bool
    budgets: frozenset[int] = frozenset()


History = Sequence[Tried]
"""All that were tried, in the order they were proposed."""
