"""Acceptance of batches: a common part, and the own fields of each compression.

A compression of a batch is the common part, in which the item's top-level fields replace the common ones; only labels
are merged. Each compression is checked as a request of its own. Problems of the common part are reported once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from services.intake.compression import AcceptedCompression
from workloads.spec.errors import FieldError, InputError
from workloads.spec.parsing import parse_as
from workloads.spec.part import Labels, Part
from workloads.spec.request import CompressionRequest, parse_request

MAX_COMPRESSIONS = 200
_LABELS = "labels"


class BatchRequest(Part):
    """Several compressions that are submitted together."""

    name: str | None = Field(
        None, min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$", description="Free text for people."
    )
    common: dict[str, Any] = Field(
        default_factory=dict, max_length=64, description="Fields of a CompressionRequest for all compressions."
    )
    compressions: list[dict[str, Any]] = Field(
        min_length=1,
        max_length=MAX_COMPRESSIONS,
        description="Fields of each compression; they replace the common ones, except labels, which are merged.",
    )
    max_running: int | None = Field(
        None, ge=1, le=1000, description="Limit of the batch's compressions that run at the same time; null: none."
    )
    labels: Labels = Field(default_factory=dict, description="Labels of the batch itself.")


@dataclass(frozen=True, slots=True)
class AcceptedBatch:
    """An accepted batch.

    Attributes:
        asked: The batch's request.
        compressions: The accepted compressions, in their order.
    """

    asked: BatchRequest
    compressions: tuple[AcceptedCompression, ...]


def parse_batch(data: Any) -> BatchRequest:
    """Check the form of JSON-like data and build the request.

    Raises:
        InputError: The data has another form; one finding per field.
    """
    return parse_as(BatchRequest, data, "common and compressions")


def accept_batch(asked: BatchRequest, accept: Callable[[CompressionRequest], AcceptedCompression]) -> AcceptedBatch:
    """Check all compressions of a batch.

    Args:
        asked: A well-formed batch; the form of its compressions is not checked yet.
        accept: Checks one compression.

    Raises:
        InputError: The findings of all compressions, each with the field of the batch.
    """
    accepted, wrong = [], {}
    for index, item in enumerate(asked.compressions):
        try:
            accepted.append(accept(parse_request(merged(asked.common, item))))
        except InputError as error:
            wrong[index] = error.errors
    if wrong:
        raise InputError(_findings(asked, wrong))
    return AcceptedBatch(asked, tuple(accepted))


def merged(common: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the common part and an item into a compression's request."""
    request = {**common, **item}
    shared, own = common.get(_LABELS), item.get(_LABELS)
    if isinstance(shared, dict) and isinstance(own, dict):
        request[_LABELS] = shared | own
    return request


def _findings(asked: BatchRequest, wrong: Mapping[int, tuple[FieldError, ...]]) -> list[FieldError]:
    found: dict[tuple[str, str], FieldError] = {}
    for index, errors in wrong.items():
        for error in errors:
            placed = error.below(*_place(asked, wrong, index, error))
            found.setdefault((placed.field, placed.problem), placed)
    return list(found.values())


def _place(
    asked: BatchRequest, wrong: Mapping[int, tuple[FieldError, ...]], index: int, error: FieldError
) -> list[str]:
    """Path of the batch's part that has the field of a compression's finding."""
    items, own = asked.compressions, ["compressions", str(index)]
    if not error.parts:  # the finding is about the compression as a whole
        shared = len(items) > 1 and all(error in wrong.get(each, ()) for each in range(len(items)))
        return ["common"] if shared else own
    if _has(items[index], error.parts):
        return own
    if _has(asked.common, error.parts) or not any(_has(item, error.parts) for item in items):
        return ["common"]
    return own


def _has(part: Mapping[str, Any], path: Sequence[str]) -> bool:
    """Whether this part of the batch has the field."""
    held = part.get(path[0])
    if path[0] == _LABELS and len(path) > 1 and isinstance(held, dict):
        return path[1] in held
    return path[0] in part
