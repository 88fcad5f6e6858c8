"""Choosing students: for each budget the candidates that meet it, best first, or else the nearest ones.

Light to import: it reads the rows of the scores table, not the models.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from workloads.answers.fidelity import shortfalls
from workloads.shapes.architecture import Architecture
from workloads.shapes.costs import Cost
from workloads.spec.budgets import Budget


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate with its scores.

    Attributes:
        subspace: Name of its sub-space.
        architecture: Shape of the candidate.
        heldout_loss: Loss of the objective on held-out text.
        task_score: Score on the proxy task, higher is better; None if it was not fine-tuned on it.
        spread: Standard error of ``heldout_loss`` over the held-out rows; 0 if it was not measured.
        weights: Fingerprint of the artefact that holds its weights; None for the SuperLM of its sub-space.
        fidelity: Figures of its fidelity to the teacher, by name: in the SuperLM, or as exported once it is; None if
            it was not measured.
    """

    subspace: str
    architecture: Architecture
    heldout_loss: float
    task_score: float | None = None
    spread: float = 0.0
    weights: str | None = None
    fidelity: Mapping[str, float] | None = field(default=None, hash=False)


def over_best(losses: Sequence[float]) -> list[float | None]:
    """Return how much each loss exceeds the least, relative to that: 0.05 is 5 % more; None if undefined."""
    least = min(losses, default=0.0)
    return [0.0 if loss == least else _ratio(loss, least) for loss in losses]


def _ratio(loss: float, least: float) -> float | None:
    over = loss / least - 1 if least > 0 else math.inf
    return over if math.isfinite(over) else None


@dataclass(frozen=True, slots=True)
class Miss:
    """A candidate that misses a budget.

    Attributes:
        candidate: The candidate.
        misses: Cost divided by limit, for each broken limit; 1 plus what is missing, for each floor.
        latency_ms: Measured or predicted latency, if the budget has a target.
    """

    candidate: Scored
    misses: dict[str, float]
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The answer to one budget.

    Attributes:
        budget: The budget.
        ranked: All candidates within it, best first.
        nearest: The nearest candidates, if none is within it.
    """

    budget: Budget
    ranked: tuple[Scored, ...]
    nearest: tuple[Miss, ...] = ()

    @property
    def chosen(self) -> Scored | None:
        """The best candidate within the budget."""
        return self.ranked[0] if self.ranked else None


CostOf = Callable[[Architecture, int], Cost]
"""Callable that returns the exact cost of an architecture at a sequence length in tokens."""
LatencyOf = Callable[[Architecture, Budget], float]
"""Callable that returns an architecture's latency on a budget's target, in milliseconds, measured or predicted."""


def choose(
    candidates: Sequence[Scored],
    budget: Budget,
    cost_of: CostOf,
    latency_of: LatencyOf | None = None,
    nearest: int = 3,
) -> Choice:
    """Answer one budget.

    Args:
        candidates: Rows of the scores table.
        budget: The budget; all its limits must hold, and a cost equal to a limit meets it.
        cost_of: Returns a candidate's cost.
        latency_of: Returns a candidate's latency; needed if the budget has a latency target.
        nearest: Number of candidates to return if none meets the budget.

    Returns:
        The candidates within the budget, in the order of :func:`preference`. If none is within it: the nearest, by
        their largest miss. Candidates whose fidelity was not measured meet no floor and are never the nearest.
    """
    assert candidates
    assert latency_of is not None or not budget.needs_latency, budget
    preferred = preference(budget, cost_of, latency_of)
    within: list[tuple[tuple[float, ...], Scored]] = []
    over: list[tuple[float, float, Miss]] = []
    limits, length = _limits(budget), budget.sequence_length
    floors = budget.floors
    measured = latency_of if budget.needs_latency else None
    for candidate in candidates:
        if floors and candidate.fidelity is None:
            continue
        cost = cost_of(candidate.architecture, length)
        latency_ms = None if measured is None else measured(candidate.architecture, budget)
        broken = _broken(cost, limits, latency_ms) | shortfalls(candidate.fidelity or {}, floors)
        if broken:
            over.append((max(broken.values()), candidate.heldout_loss, Miss(candidate, broken, latency_ms)))
        else:
            within.append((preferred(candidate), candidate))
    if within:
        within.sort(key=lambda item: item[0])
        return Choice(budget, tuple(candidate for _, candidate in within))
    over.sort(key=lambda item: item[:2])
    return Choice(budget, (), tuple(miss for _, _, miss in over[:nearest]))


def preference(
    budget: Budget, cost_of: CostOf, latency_of: LatencyOf | None = None
) -> Callable[[Scored], tuple[float, ...]]:
    """Return the sort key of the candidates within a budget, least first.

    With ``minimise`` it is that cost. Of equal ones, and without it: first the candidates with a proxy-task score, best
    first; then the others by held-out loss; of equal ones the cheaper first.
    """

    def key(scored: Scored) -> tuple[float, ...]:
        cost = cost_of(scored.architecture, budget.sequence_length)
        if budget.minimise is None:
            return (*rank(scored), cost.flops)
        if budget.minimise == "latency":
            assert latency_of is not None, budget
            return (latency_of(scored.architecture, budget), *rank(scored))
        return (getattr(cost, budget.minimise), *rank(scored), cost.flops)

    return key


def rank(scored: Scored) -> tuple[float, float]:
    """Sort key of candidates, least first: candidates with a proxy-task score, by score; then the others, by loss."""
    return (math.inf if scored.task_score is None else -scored.task_score), scored.heldout_loss


def misses(cost: Cost, budget: Budget, latency_ms: float | None = None) -> dict[str, float]:
    """Return cost divided by limit, for each broken limit."""
    return _broken(cost, _limits(budget), latency_ms)


_Limit = tuple[str, float, Callable[[Cost], int] | None]
"""Name and value of a limit, and the cost that it is set on; None for the latency, which is not counted."""


def _limits(budget: Budget) -> list[_Limit]:
    return [(name, limit, _cost_read(name, budget)) for name, limit in budget.limits.items()]


def _cost_read(name: str, budget: Budget) -> Callable[[Cost], int] | None:
    if name == "max_latency_ms":
        return None
    if name == "max_weight_bytes":
        return operator.methodcaller("weight_bytes", budget.weight_dtype)
    return operator.attrgetter(name.removeprefix("max_"))


def _broken(cost: Cost, limits: Sequence[_Limit], latency_ms: float | None) -> dict[str, float]:
    broken = {}
    for name, limit, read in limits:
        value = latency_ms if read is None else read(cost)
        assert value is not None, name
        if value > limit:
            broken[name] = value / limit
    return broken
