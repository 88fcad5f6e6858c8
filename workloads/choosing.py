"""Choosing students: for each budget the best candidate that meets it, or the nearest that do not.

Light to import: it works on the scores table's rows, without the models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workloads.architecture import Architecture
from workloads.costs import Cost
from workloads.request import Budget


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate and its loss on held-out text."""

    subspace: str
    architecture: Architecture
    heldout_loss: float


@dataclass(frozen=True, slots=True)
class Miss:
    """A candidate over a budget; ``misses`` gives cost over limit, by limit, for those that are broken."""

    candidate: Scored
    misses: dict[str, float]


@dataclass(frozen=True, slots=True)
class Choice:
    """The answer to one budget: ``chosen``, or None and the ``nearest``."""

    budget: Budget
    chosen: Scored | None
    nearest: tuple[Miss, ...] = ()


def choose(
    candidates: Sequence[Scored], budget: Budget, cost_of: Callable[[Architecture, int], Cost], nearest: int = 3
) -> Choice:
    """Answer one budget.

    Args:
        candidates: The scores table.
        budget: All its limits must hold; a cost equal to a limit meets it.
        cost_of: The real cost of an architecture at a sequence length.
        nearest: How many candidates to give where nothing meets the budget.

    Returns:
        The candidate of the smallest held-out loss within the budget, the cheaper one of equals.
    """
    assert candidates
    within: list[tuple[float, int, Scored]] = []
    over: list[tuple[float, float, Miss]] = []
    for candidate in candidates:
        cost = cost_of(candidate.architecture, budget.sequence_length)
        broken = misses(cost, budget)
        if broken:
            over.append((max(broken.values()), candidate.heldout_loss, Miss(candidate, broken)))
        else:
            within.append((candidate.heldout_loss, cost.flops, candidate))
    if within:
        return Choice(budget, min(within, key=lambda item: item[:2])[2])
    over.sort(key=lambda item: item[:2])
    return Choice(budget, None, tuple(miss for _, _, miss in over[:nearest]))


def misses(cost: Cost, budget: Budget) -> dict[str, float]:
    """By each limit that ``cost`` breaks, how many times over the limit it is."""
    costs = {"max_params": cost.params, "max_flops": cost.flops}
    return {name: costs[name] / limit for name, limit in budget.limits.items() if costs[name] > limit}
