"""Candidates that a plan counts: all of a small space, a random sample of a large one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from workloads.answers.choosing import misses
from workloads.answers.trained import TeacherStage
from workloads.documents.job_folder import PlanBudgetDocument
from workloads.runs.latency.latency import ForwardTimes
from workloads.shapes.architecture import Architecture
from workloads.shapes.costs import CostByLength, cost_by_length
from workloads.shapes.search_space import Space, members_or_draws
from workloads.spec.budgets import Budget

Candidate = tuple[Space, Architecture]

LISTED = 1_000
"""Largest space whose members are all counted; of a larger one a sample is, so that a plan is quick."""
_DRAWS = 400
"""Size of the sample."""


class Shortlist:
    """Candidates of some spaces, with their costs at every length.

    Args:
        teacher: The candidates' teacher.
        spaces: The spaces.
    """

    def __init__(self, teacher: TeacherStage, spaces: Sequence[Space]) -> None:
        self._spaces = spaces
        self._costed: dict[str, list[tuple[Architecture, CostByLength]]] = {
            space.name: [
                (one, cost_by_length(teacher.shape, one))
                for one in {*members_or_draws(space, listed=LISTED, draws=_DRAWS), space.smallest, space.largest}
            ]
            for space in spaces
        }

    def finalists(
        self, budgets: Sequence[Budget], forwards: Mapping[str, ForwardTimes], count: int
    ) -> list[list[Candidate]]:
        """Guess the best ``count`` candidates of each budget: the largest that meet it, since loss falls with size."""
        found = []
        for budget in budgets:
            times = None if budget.latency_target is None else forwards[budget.latency_target]
            within = []
            for space in self._spaces:
                for one, costs in self._costed[space.name]:
                    latency_ms = None
                    if times is not None:
                        latency_ms = 1e3 * times.of(costs.flops.at(times.target.sequence_length)).forward
                    cost = costs.at(budget.sequence_length)
                    if not misses(cost, budget, latency_ms):
                        within.append((cost.flops, (space, one)))
            within.sort(key=lambda item: item[0], reverse=True)
            found.append([candidate for _, candidate in within[:count]])
        return found

    def count(self, budget: Budget) -> PlanBudgetDocument:
        """Count the candidates that meet a budget's counted limits; an estimate for large spaces."""
        counted = budget.model_copy(update={"max_latency_ms": None})
        counts = {space.name: self._within(space, counted) for space in self._spaces}
        notes = []
        if budget.max_latency_ms is not None:
            notes.append(f"max_latency_ms is measured on {budget.latency_target} by the run; the counts leave it out")
        if budget.floors:
            notes.append(f"{', '.join(budget.floors)}: fidelity is measured by the run; the counts leave it out")
        if drawn := [space.name for space in self._spaces if len(space) > LISTED]:
            notes.append(f"the counts of {', '.join(drawn)} are estimated from a sample")
        return PlanBudgetDocument(
            budget=budget.name, candidates=counts, feasible=any(counts.values()), note="; ".join(notes) or None
        )

    def _within(self, space: Space, budget: Budget) -> int:
        costed = self._costed[space.name]
        met = sum(not misses(costs.at(budget.sequence_length), budget) for _, costs in costed)
        return max(min(met, 1), round(met * len(space) / len(costed)))


def each_once(groups: Sequence[Sequence[Candidate]]) -> list[Candidate]:
    """Return the candidates of several budgets, each once."""
    return list({(space.name, one): (space, one) for group in groups for space, one in group}.values())
