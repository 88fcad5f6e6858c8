"""History of a search: the tried candidates, from which proposers make the next ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workloads.runs.search.rules import Axes, Candidate


@dataclass(frozen=True, slots=True)
class Tried:
    """A tried candidate.

    Attributes:
        candidate: The candidate.
        axes: Its costs; see :func:`workloads.runs.search.rules.cost_axes`.
        loss: Mean loss over the rows that it was scored on; None if it was not scored.
        survives: Whether it was not dropped.
        budgets: Numbers of the budgets that it may answer; empty unless budgets are the aim.
    """

    candidate: Candidate
    axes: Axes
    loss: float | None
    survives: bool
    budgets: frozenset[int] = frozenset()


History = Sequence[Tried]
"""The tried candidates, in the order of their proposal."""
