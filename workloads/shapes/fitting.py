"""What of a request can be judged once the teacher's shape is known. Light to import."""

from __future__ import annotations

from collections.abc import Sequence

from workloads.shapes.architecture import TeacherShape
from workloads.shapes.search_space import Space
from workloads.shapes.spaces import spaces_for
from workloads.spec.errors import FieldError, InputError
from workloads.spec.lengths import length_findings, too_long, with_lengths
from workloads.spec.request import CompressionRequest
from workloads.spec.search import MOST_CANDIDATES


def fitting_spaces(request: CompressionRequest, shape: TeacherShape) -> list[Space]:
    """Give the sub-spaces that a request asks for, if it fits the teacher.

    Args:
        request: With the definitions of all latency targets that its budgets name.
        shape: The teacher's.

    Raises:
        InputError: Rows longer than the teacher can read, sub-spaces that it cannot give, more relation heads than
            they can split; every finding.
    """
    request = with_lengths(request, shape.longest)
    findings, spaces = [], list[Space]()
    if request.training.sequence_length > shape.longest:
        findings.append(too_long("training.sequence_length", request.training.sequence_length, shape.longest))
    findings += length_findings(request, shape.longest)
    try:
        spaces.extend(spaces_for(request.subspaces, shape))
    except InputError as error:
        findings += error.errors
    findings += _relation_heads(request, shape, spaces)
    findings += _too_many(request, spaces)
    if findings:
        raise InputError(findings)
    return spaces


def _too_many(request: CompressionRequest, spaces: Sequence[Space]) -> list[FieldError]:
    count = sum(map(len, spaces))
    if request.search.searcher != "exhaustive" or count <= MOST_CANDIDATES:
        return []
    problem = f"The sub-spaces hold {count:,} candidates, and 'exhaustive' scores each; at most {MOST_CANDIDATES:,}."
    remedy = "Use the searcher 'random' or 'evolutionary' with a number of 'candidates', or smaller sub-spaces."
    return [FieldError("search.searcher", problem, remedy)]


def _relation_heads(request: CompressionRequest, shape: TeacherShape, spaces: Sequence[Space]) -> list[FieldError]:
    heads = request.objective.relation_heads or shape.heads
    lasts = {space.name: space.smallest.layers[-1] for space in spaces}
    widths = {name: layer.heads * layer.head_width for name, layer in lasts.items()}
    name, width = min(widths.items(), key=lambda item: item[1], default=("", heads))
    if request.objective.relation is None or heads <= width:
        return []
    problem = f"{heads} relation heads cannot split the narrowest student of {name!r}, {width} wide."
    return [FieldError("objective.relation_heads", problem, f"Use at most {width}.")]
