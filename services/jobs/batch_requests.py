"""What a batch's request says, and its checking: a common part, and what each compression has of its own.

A compression of a batch is the common part with the item's top-level fields in place of the common ones; only
labels are merged. Each is checked as a request of its own. What is wrong with the common part is wrong with all
that have it, and is told once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from workloads.spec.errors import FieldError, InputError
from workloads.spec.parsing import parse_as
from workloads.spec.part import Name, Part

MAX_COMPRESSIONS = 200
_LABELS = "labels"
_WHOLE = "request"
"""The field of a finding that is about a request as a whole."""


class BatchRequest(Part):
    """Several compressions that are asked for together."""

    name: str | None = Field(
        None, min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$", description="Free text to find it by."
    )
    common: dict[str, Any] = Field(
        default_factory=dict, description="Fields of a CompressionRequest that all of them have."
    )
    compressions: list[dict[str, Any]] = Field(
        min_length=1,
        max_length=MAX_COMPRESSIONS,
        description="Of each, the fields that it has instead of, or beside, the common ones; labels are merged.",
    )
    max_running: int | None = Field(
        None, ge=1, le=1000, description="How many of them run at the same time; null: as many as the service lets."
    )
    labels: dict[Name, str] = Field(default_factory=dict, max_length=16, description="The batch's own.")


@dataclass(frozen=True, slots=True)
class AcceptedBatch:
    """A batch that can be worked with.

    Attributes:
        asked: As it was sent.
        requests: Its compressions, each as it is kept.
    """

    asked: BatchRequest
    requests: list[dict[str, Any]]


def accept_batch(data: Any, accept: Callable[[Any], dict[str, Any]]) -> AcceptedBatch:
    """Check a batch and all its compressions.

    Args:
        data: JSON-like.
        accept: Checks one compression and gives it as it is kept; see :func:`services.jobs.intake.accept_request`.

    Raises:
        InputError: The findings of all compressions, each at the field that was sent.
    """
    asked = parse_as(BatchRequest, data, "common and compressions")
    requests, wrong = [], {}
    for index, item in enumerate(asked.compressions):
        try:
            requests.append(accept(merged(asked.common, item)))
        except InputError as error:
            wrong[index] = error.errors
    if wrong:
        raise InputError(_findings(asked, wrong))
    return AcceptedBatch(asked, requests)


def merged(common: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
    """One compression of a batch, as a request of its own."""
    request = {**common, **item}
    shared, own = common.get(_LABELS), item.get(_LABELS)
    if isinstance(shared, dict) and isinstance(own, dict):
        request[_LABELS] = shared | own
    return request


def _findings(asked: BatchRequest, wrong: Mapping[int, tuple[FieldError, ...]]) -> list[FieldError]:
    found: dict[tuple[str, str], FieldError] = {}
    for index, errors in wrong.items():
        for error in errors:
            field = _place(asked, wrong, index, error)
            found.setdefault((field, error.problem), FieldError(field, error.problem, error.remedy))
    return list(found.values())


def _place(asked: BatchRequest, wrong: Mapping[int, tuple[FieldError, ...]], index: int, error: FieldError) -> str:
    """Where in the batch the finding of one compression belongs."""
    items = asked.compressions
    if error.field == _WHOLE:
        shared = len(items) > 1 and all(error in wrong.get(each, ()) for each in range(len(items)))
        return "common" if shared else f"compressions.{index}"
    if _has(items[index], error.field):
        return f"compressions.{index}.{error.field}"
    if _has(asked.common, error.field) or not any(_has(item, error.field) for item in items):
        return f"common.{error.field}"
    return f"compressions.{index}.{error.field}"


def _has(part: Mapping[str, Any], field: str) -> bool:
    """Whether it is this part of the batch that gives a compression the field."""
    top, _, name = field.partition(".")
    held = part.get(top)
    if top == _LABELS and name and isinstance(held, dict):
        return name in held
    return top in part
