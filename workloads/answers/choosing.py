"""Choosing students: for each budget the candidates that meet it, best first, or the nearest that do not.

Light to import: it works on the scores table's rows, without the models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workloads.shapes.architecture import Architecture
from workloads.shapes.costs import Cost
from workloads.spec.budgets import Budget


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate and how good it is.

    Attributes:
        subspace: The name of its sub-space.
        architecture: Its shape.
        heldout_loss: The objective on held-out text.
        task_score: On the proxy task, where it was fine-tuned on one; the more the better.
        spread: Standard error of ``heldout_loss`` over the held-out rows; 0 where it was not measured.
    """

    subspace: str
    architecture: Architecture
    heldout_loss: float
    task_score: float | None = None
    spread: float = 0.0


@dataclass(frozen=True, slots=True)
class Miss:
    """A candidate over a budget.

    Attributes:
        candidate: Which.
        misses: Cost over limit, by limit, for those that are broken.
        latency_ms: Measured or predicted, where the budget limits it.
    """

    candidate: Scored
    misses: dict[str, float]
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The answer to one budget.

    Attributes:
        budget: What was asked.
        ranked: All candidates within it, the best first.
        nearest: Where there are none, those that come nearest.
    """

    budget: Budget
    ranked: tuple[Scored, ...]
    nearest: tuple[Miss, ...] = ()

    @property
    def chosen(self) -> Scored | None:
        """The best candidate within the budget."""
        return self.ranked[0] if self.ranked else None


CostOf = Callable[[Architecture, int], Cost]
"""The real cost of an architecture at a sequence length."""
LatencyOf = Callable[[Architecture, Budget], float]
"""The latency in milliseconds of an architecture on a budget's target, as far as it is known."""


def choose(
    candidates: Sequence[Scored],
    budget: Budget,
    cost_of: CostOf,
    latency_of: LatencyOf | None = None,
    nearest: int = 3,
) -> Choice:
    """Answer one budget.

    Args:
        candidates: The scores table.
        budget: All its limits must hold; a cost equal to a limit meets it.
        cost_of: What a candidate costs.
        latency_of: How long it takes; needed where the budget limits it.
        nearest: How many candidates to give where nothing meets the budget.

    Returns:
        The candidates within the budget: those with a score on the proxy task first, the best score first; then by
        held-out loss, the cheaper one of equals. Where nothing is within it, the nearest by the limit that they miss
        most.
    """
    assert candidates
    assert latency_of is not None or budget.max_latency_ms is None, budget
    within: list[tuple[tuple[float, float, int], Scored]] = []
    over: list[tuple[float, float, Miss]] = []
    for candidate in candidates:
        cost = cost_of(candidate.architecture, budget.sequence_length)
        limits_latency = latency_of is not None and budget.max_latency_ms is not None
        latency_ms = latency_of(candidate.architecture, budget) if latency_of and limits_latency else None
        broken = misses(cost, budget, latency_ms)
        if broken:
            over.append((max(broken.values()), candidate.heldout_loss, Miss(candidate, broken, latency_ms)))
        else:
            within.append(((*rank(candidate), cost.flops), candidate))
    if within:
        within.sort(key=lambda item: item[0])
        return Choice(budget, tuple(candidate for _, candidate in within))
    over.sort(key=lambda item: item[:2])
    return Choice(budget, (), tuple(miss for _, _, miss in over[:nearest]))


def rank(scored: Scored) -> tuple[float, float]:
    """What candidates are ordered by, the least first: a score on the proxy task before none, then the loss."""
    return (math.inf if scored.task_score is None else -scored.task_score), scored.heldout_loss


def misses(cost: Cost, budget: Budget, latency_ms: float | None = None) -> dict[str, float]:
    """By each limit that is broken, how many times over the limit the cost is."""
    costs = {
        "max_params": cost.params,
        "max_params_without_embeddings": cost.params_without_embeddings,
        "max_flops": cost.flops,
        "max_weight_bytes": cost.weight_bytes(budget.weight_dtype),
        "max_activation_bytes": cost.activation_bytes,
        "max_latency_ms": latency_ms,
    }
    broken = {}
    for name, limit in budget.limits.items():
        value = costs[name]
        assert value is not None, name
        if value > limit:
            broken[name] = value / limit
    return broken
