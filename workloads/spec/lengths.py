"""Lengths of sequences in a request: defaults, and checks against the teacher's longest input. Light to import."""

from __future__ import annotations

from workloads.spec.budgets import Budget
from workloads.spec.errors import FieldError
from workloads.spec.part import with_length
from workloads.spec.request import CompressionRequest


def too_long(field: str, length: int, longest: int) -> FieldError:
    """Make the finding that a field asks for more tokens than the teacher's longest input has."""
    return FieldError(field, f"The teacher reads at most {longest} tokens, not {length}.", f"Use at most {longest}.")


def with_lengths(request: CompressionRequest, longest: int) -> CompressionRequest:
    """Set every ``sequence_length`` that the request leaves out, for a longest input of ``longest`` tokens."""
    return request.model_copy(
        update={
            "training": with_length(request.training, longest),
            "proxy_task": with_length(request.proxy_task, longest),
            "budgets": [with_length(budget, longest) for budget in request.budgets],
            "latency_targets": [with_length(target, longest) for target in request.latency_targets],
        }
    )


def length_findings(request: CompressionRequest, longest: int) -> list[FieldError]:
    """Return the findings about lengths over ``longest`` tokens.

    Args:
        request: A request with the definitions of all latency targets that its budgets name.
        longest: Longest input of the teacher, see :attr:`workloads.shapes.architecture.TeacherShape.longest`.
    """
    targets = {target.name: target for target in request.latency_targets}
    findings = []
    for index, budget in enumerate(request.budgets):
        if _counts_tokens(budget) and budget.sequence_length > longest:
            findings.append(too_long(f"budgets.{index}.sequence_length", budget.sequence_length, longest))
        target = targets.get(budget.latency_target or "")
        if target is not None and target.sequence_length > longest:
            findings.append(
                FieldError(
                    f"budgets.{index}.latency_target",
                    f"The target {target.name!r} has {target.sequence_length} tokens; the teacher reads at most "
                    f"{longest}.",
                    f"Use a target with a 'sequence_length' of at most {longest}.",
                )
            )
    task = request.proxy_task
    if task is not None and task.sequence_length > longest:
        findings.append(too_long("proxy_task.sequence_length", task.sequence_length, longest))
    return findings


def _counts_tokens(budget: Budget) -> bool:
    """Whether the budget's length must be checked: a limit depends on it, or it is not the default."""
    default = Budget.model_fields["sequence_length"].default
    return bool(budget.max_flops or budget.max_activation_bytes or budget.sequence_length != default)
