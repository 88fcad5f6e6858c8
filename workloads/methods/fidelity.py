"""What a request's floors ask of its teacher, and how many rows fidelity is measured on. Light to import."""

from __future__ import annotations

from workloads.shapes.architecture import TeacherShape
from workloads.shapes.heads import Head, LogitsHead
from workloads.spec.budgets import FLOORS
from workloads.spec.errors import FieldError
from workloads.spec.request import CompressionRequest


def fidelity_rows(request: CompressionRequest, shape: TeacherShape) -> int | None:
    """Return the most held-out rows to measure fidelity on; None if the teacher has no output to compare."""
    return None if shape.head is None else request.fidelity_rows


def floors_of(head: Head | None) -> tuple[str, ...]:
    """Return the floors that a budget for students with this head may set."""
    if head is None:
        return ()
    if not isinstance(head, LogitsHead):
        # Vectors of another size than the teacher's have no cosine to them.
        return (*(("min_cosine",) if head.teacher_width is None else ()), "min_neighbours", "min_spearman")
    return ("min_spearman",) if head.problem == "regression" else ("min_agreement",)


def floor_findings(request: CompressionRequest, shape: TeacherShape) -> list[FieldError]:
    """Return the findings about floors of figures that the teacher does not have."""
    allowed = floors_of(shape.head)
    if allowed:
        known = f"Set {' or '.join(allowed)}, or leave it out."
        why = f"A teacher of the kind {shape.kind!r} has no such figure."
        if isinstance(shape.head, LogitsHead) and shape.head.problem == "regression":
            why = "The teacher gives numbers, and no such figure."
        if "min_neighbours" in allowed and "min_cosine" not in allowed:
            why = "The students' vectors have a size of their own (teacher.embedding_size), and no such figure."
    else:
        known = "Leave it out, or use a teacher that gives labels, numbers or vectors."
        why = "The teacher is an encoder without an output to compare, so a student has no fidelity to it."
    return [
        FieldError(f"budgets.{index}.{name}", why, known)
        for index, budget in enumerate(request.budgets)
        for name in FLOORS
        if name in budget.floors and name not in allowed
    ]
