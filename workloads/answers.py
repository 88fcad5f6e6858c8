"""Answers to budgets as documents; the service words those at once that a run words in the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workloads.budgets import Budget
from workloads.choosing import Choice, CostOf, Scored
from workloads.job_folder import CostDocument, InfeasibleDocument, NearestDocument, StudentDocument, student_id


def student_document(job: str, budget: Budget, scored: Scored, cost_of: CostOf, **more: Any) -> StudentDocument:
    """Describe the student that a job gives for a budget; ``more`` are further fields of the document."""
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
    """Describe the chosen students before their files are made."""
    return [
        student_document(job, choice.budget, choice.chosen, cost_of, status="pending", files=None)
        for choice in choices
        if choice.chosen is not None
    ]


def infeasible_documents(choices: Sequence[Choice], cost_of: CostOf) -> list[InfeasibleDocument]:
    """Describe the budgets that nothing meets, with the nearest candidates."""
    return [
        InfeasibleDocument(
            budget=choice.budget.name,
            nearest=[
                NearestDocument(
                    architecture=miss.candidate.architecture.to_json(),
                    subspace=miss.candidate.subspace,
                    heldout_loss=miss.candidate.heldout_loss,
                    misses=miss.misses,
                    **CostDocument.fields_of(cost_of(miss.candidate.architecture, choice.budget.sequence_length)),
                )
                for miss in choice.nearest
            ],
        )
        for choice in choices
        if choice.chosen is None
    ]
