"""Checks of a request against the shape of its teacher. Light to import."""

from __future__ import annotations

from collections.abc import Sequence

from workloads.methods.fidelity import floor_findings
from workloads.methods.method import method_of
from workloads.shapes.architecture import Architecture, TeacherShape
from workloads.shapes.kinds import settled_objective, text_finding
from workloads.shapes.search_space import Space, members_or_draws
from workloads.spec.errors import FieldError, InputError
from workloads.spec.lengths import length_findings, too_long, with_lengths
from workloads.spec.request import CompressionRequest


def settled(request: CompressionRequest, shape: TeacherShape) -> CompressionRequest:
    """Set what the request leaves to the teacher: its kind, open lengths, and the default terms of the kind.

    Raises:
        InputError: A term of the objective goes with another kind of teacher.
    """
    objective = settled_objective(request.objective, shape.head)
    teacher = request.teacher.model_copy(update={"kind": shape.kind})
    return with_lengths(request, shape.longest).model_copy(update={"teacher": teacher, "objective": objective})


def fitting_spaces(request: CompressionRequest, shape: TeacherShape) -> list[Space]:
    """Return the spaces that a request asks for, if it fits the teacher.

    Args:
        request: A request with the definitions of all latency targets that its budgets name.
        shape: Shape of the teacher.

    Raises:
        InputError: A length is over the teacher's longest input, or the method's own parts do not fit the teacher;
            the error holds every finding.
    """
    request = with_lengths(request, shape.longest)
    findings, spaces = list[FieldError](), list[Space]()
    if request.training.sequence_length > shape.longest:
        findings.append(too_long("training.sequence_length", request.training.sequence_length, shape.longest))
    findings += length_findings(request, shape.longest)
    findings += request.step_findings()
    try:
        spaces.extend(method_of(request).fit(request, shape))
    except InputError as error:
        findings += error.errors
    findings += _relation_findings(request, shape, spaces)
    findings += _kind_findings(request, shape)
    findings += floor_findings(request, shape)
    if findings:
        raise InputError(findings)
    return spaces


def _kind_findings(request: CompressionRequest, shape: TeacherShape) -> list[FieldError]:
    """Return the findings about text and terms that the teacher's kind does not have."""
    found = text_finding(request.corpus, shape.head)
    findings = [] if found is None else [found]
    try:
        objective = settled_objective(request.objective, shape.head)
    except InputError as error:
        return [*findings, *error.errors]
    asked = objective.embedding
    if asked is not None and asked.similarity_weight and asked.similarity_rows > (rows := request.heldout_rows):
        findings.append(
            FieldError(
                "search.heldout_blocks",
                f"{rows} held-out rows are fewer than the {asked.similarity_rows} of a group whose similarities are "
                "compared.",
                f"Use at least {asked.similarity_rows}, or set objective.embedding.similarity_rows to at most {rows}.",
            )
        )
    return findings


def _relation_findings(request: CompressionRequest, shape: TeacherShape, spaces: Sequence[Space]) -> list[FieldError]:
    """Return the findings about relations that the last layer of the teacher or of a student does not have."""
    if request.objective.relation is None:
        return []
    heads = request.objective.relation_heads or shape.last_heads
    if not shape.last_heads:
        return [_no_relations("The teacher's last layer has")]
    widths = {space.name: min(map(_last_width, (space.smallest, *members_or_draws(space)))) for space in spaces}
    name, width = min(widths.items(), key=lambda item: item[1], default=("", heads))
    if not width:
        return [_no_relations(f"The last layers of some students of {name!r} have")]
    if heads <= width:
        return []
    problem = f"{heads} relation heads cannot split the narrowest student of {name!r}, {width} wide."
    return [FieldError("objective.relation_heads", problem, f"Use at most {width}.")]


def _no_relations(whose: str) -> FieldError:
    problem = f"{whose} no heads, and so no relations."
    return FieldError("objective.relation", problem, "Set it to null and give an 'output'.")


def _last_width(architecture: Architecture) -> int:
    last = architecture.layers[-1]
    return last.heads * last.head_width
