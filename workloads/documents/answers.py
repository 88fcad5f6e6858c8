"""Documents of answers to budgets, the same from the service (at once) and from a run (at its end)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from workloads.answers.choosing import Choice, CostOf, Miss, Scored
from workloads.answers.latency import LatencyMeasure
from workloads.documents.job_folder import (
    CostDocument,
    InfeasibleDocument,
    NearestDocument,
    StudentDocument,
    student_id,
)
from workloads.shapes.architecture import Architecture
from workloads.spec.budgets import Budget

MeasureOf = Callable[[Architecture, Budget], LatencyMeasure | None]
"""Callable that returns the latency measured for an architecture on a budget's target; None if there is none."""


def student_document(job: str, budget: Budget, scored: Scored, cost_of: CostOf, **more: Any) -> StudentDocument:
    """Make the document of a job's student for a budget; ``more`` are further fields of it."""
    return StudentDocument(
        id=student_id(job, budget.name),
        budget=budget.name,
        subspace=scored.subspace,
        architecture=scored.architecture.to_json(),
        heldout_loss=scored.heldout_loss,
        task_score=scored.task_score,
        **CostDocument.fields_of(cost_of(scored.architecture, budget.sequence_length)),
        **more,
    )


def pending_documents(job: str, choices: Sequence[Choice], cost_of: CostOf) -> list[StudentDocument]:
    """Make the documents of the chosen students before their files exist."""
    return [
        student_document(job, choice.budget, choice.chosen, cost_of, status="pending", files=None)
        for choice in choices
        if choice.chosen is not None
    ]


def infeasible_documents(
    choices: Sequence[Choice], cost_of: CostOf, measure_of: MeasureOf = lambda *_: None
) -> list[InfeasibleDocument]:
    """Make the documents of infeasible budgets and their nearest candidates.

    Their latencies are measured ones where ``measure_of`` returns one, else predicted ones.
    """
    return [
        InfeasibleDocument(
            budget=choice.budget.name,
            nearest=[_nearest_document(miss, choice.budget, cost_of, measure_of) for miss in choice.nearest],
        )
        for choice in choices
        if choice.chosen is None
    ]


def _nearest_document(miss: Miss, budget: Budget, cost_of: CostOf, measure_of: MeasureOf) -> NearestDocument:
    architecture = miss.candidate.architecture
    latency: dict[str, Any] = {}
    if miss.latency_ms is not None:
        measure = measure_of(architecture, budget)
        latency = {"latency_ms": miss.latency_ms, "latency_source": "predicted" if measure is None else "measured"}
        latency["latency_agrees"] = None if measure is None else measure.agrees
    return NearestDocument(
        architecture=architecture.to_json(),
        subspace=miss.candidate.subspace,
        heldout_loss=miss.candidate.heldout_loss,
        misses=miss.misses,
        fidelity=None if miss.candidate.fidelity is None else dict(miss.candidate.fidelity),
        **latency,
        **CostDocument.fields_of(cost_of(architecture, budget.sequence_length)),
    )
