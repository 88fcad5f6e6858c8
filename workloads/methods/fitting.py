"""Checks of a request against the shape of its teacher. Light to import."""

from __future__ import annotations

from workloads.methods.method import method_of
from workloads.shapes.architecture import TeacherShape
from workloads.shapes.search_space import Space
from workloads.spec.errors import FieldError, InputError
from workloads.spec.lengths import length_findings, too_long, with_lengths
from workloads.spec.request import CompressionRequest


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
    try:
        spaces.extend(method_of(request).fit(request, shape))
    except InputError as error:
        findings += error.errors
    if findings:
        raise InputError(findings)
    return spaces
