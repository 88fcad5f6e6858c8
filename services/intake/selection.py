"""Acceptance of selections: new budgets in the request of a finished compression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from services.intake.compression import with_targets
from services.jobs.records import Job
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
        default_factory=list, max_length=64, description="Instead of those of the compression's request."
    )


def parse_selection(data: Any) -> SelectionRequest:
    """Check the form of JSON-like data and build the request.

    Raises:
        InputError: One finding a field, with the remedy.
    """
    return parse_as(SelectionRequest, data, "budgets")


def accept_selection(
    asked: SelectionRequest, compression: Job, longest: int, targets: Sequence[LatencyTarget]
) -> CompressionRequest:
    """The request of a compression with other budgets.

    Args:
        asked: A well-formed request.
        compression: The compression that answers the budgets.
        longest: Longest sequence of its teacher, in tokens.
        targets: The service's latency targets, beside the built-in ones.

    Raises:
        InputError: The budgets do not agree with one another, or ask for more than the teacher can do; or an older
            version accepted the compression's request and this one cannot.
    """
    try:
        whole = parse_request(compression.request)
    except InputError as error:
        raise InputError.of(
            "compression",
            f"An older version accepted the request of {compression.id}, and this one does not: {error}",
            "Submit the compression again with these fields mended; what it has trained is not trained again.",
        ) from error
    new = {name: getattr(asked, name) for name in asked.model_fields_set}
    request, findings = with_targets(parse_request({**dict(whole), **new}), targets)
    request = with_lengths(request, longest)
    findings += length_findings(request, longest)
    if findings:
        raise InputError(findings)
    return request
