"""Acceptance of selections: new budgets for a finished compression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from services.intake.compression import with_targets
from services.jobs.records import Job
from workloads.methods.fidelity import floor_findings
from workloads.shapes.architecture import TeacherShape
from workloads.spec.budgets import Budget, LatencyTarget
from workloads.spec.errors import InputError
from workloads.spec.lengths import length_findings, with_lengths
from workloads.spec.parsing import parse_as
from workloads.spec.part import Part
from workloads.spec.request import CompressionRequest, parse_request


class SelectionRequest(Part):
    """New budgets on a finished compression."""

    budgets: list[Budget] = Field(min_length=1, max_length=64)
    latency_targets: list[LatencyTarget] = Field(
        default_factory=list, max_length=64, description="Latency targets; they replace the compression's."
    )


def parse_selection(data: Any) -> SelectionRequest:
    """Check the form of JSON-like data and build the request.

    Raises:
        InputError: The data has another form; one finding per field.
    """
    return parse_as(SelectionRequest, data, "budgets")


def accept_selection(
    asked: SelectionRequest, compression: Job, teacher: TeacherShape, targets: Sequence[LatencyTarget]
) -> CompressionRequest:
    """Make the request of a compression with other budgets.

    Args:
        asked: A well-formed selection.
        compression: The compression that answers the budgets.
        teacher: Shape of its teacher.
        targets: The service's latency targets, beside the built-in ones.

    Raises:
        InputError: The budgets contradict each other, exceed the teacher's length, or set a floor that its kind does
            not have; or an older version accepted the compression's request, and this version does not.
    """
    try:
        whole = parse_request(compression.request)
    except InputError as error:
        raise InputError.of(
            "compression",
            f"An older version accepted the request of {compression.id}, but this version does not: {error}",
            "Correct these fields and submit the compression again; what it has trained is reused.",
        ) from error
    new = {name: getattr(asked, name) for name in asked.model_fields_set}
    request, findings = with_targets(parse_request({**dict(whole), **new}), targets)
    request = with_lengths(request, teacher.longest)
    findings += length_findings(request, teacher.longest)
    findings += floor_findings(request, teacher)
    if findings:
        raise InputError(findings)
    return request
