"""What of a request can be judged only once the teacher is known."""

from __future__ import annotations

from collections.abc import Sequence

from workloads.architecture import TeacherShape
from workloads.errors import InputError
from workloads.lengths import length_findings, too_long
from workloads.request import CompressionRequest, TrainingSpec
from workloads.spaces import SubSpace


def check_fits(request: CompressionRequest, shape: TeacherShape, spaces: Sequence[SubSpace]) -> None:
    """Refuse settings that do not fit the teacher or the sub-spaces.

    Args:
        request: The settings, with the definitions of all latency targets that its budgets name.
        shape: The teacher's.
        spaces: The sub-spaces.

    Raises:
        InputError: Rows longer than the teacher can read, or settings for other sub-spaces than there are.
    """
    training, names = request.training, [space.name for space in spaces]
    findings = length_findings(request, shape.longest)
    if training.sequence_length > shape.longest:
        findings.insert(0, too_long("training.sequence_length", training.sequence_length, shape.longest))
    if findings:
        raise InputError(findings)
    tokens = training.tokens_per_superlm
    if isinstance(tokens, dict) and set(tokens) != set(names):
        raise InputError.of(
            "training.tokens_per_superlm",
            f"It names {', '.join(sorted(tokens))}; the sub-spaces are {', '.join(names)}.",
            "Give one number for all, or one for each of the sub-spaces.",
        )
    _check_placement(training, names)
    _check_relation_heads(request, shape, spaces)


def _check_placement(training: TrainingSpec, names: Sequence[str]) -> None:
    if isinstance(training.placement, str):
        return
    placed = [name for group in training.placement for name in group]
    if sorted(placed) != sorted(names) or not all(training.placement):
        raise InputError.of(
            "training.placement",
            f"Its groups hold {', '.join(sorted(placed)) or 'nothing'}; the sub-spaces are {', '.join(names)}.",
            "Put every sub-space into exactly one group, or use 'auto'.",
        )


def _check_relation_heads(request: CompressionRequest, shape: TeacherShape, spaces: Sequence[SubSpace]) -> None:
    heads = request.objective.relation_heads or shape.heads
    for space in spaces:
        layer = space.smallest.layers[0]
        width = layer.heads * layer.head_width
        if request.objective.relation is not None and heads > width:
            raise InputError.of(
                "objective.relation_heads",
                f"{heads} relation heads cannot split the narrowest student of {space.name!r}, {width} wide.",
                f"Use at most {width}.",
            )
