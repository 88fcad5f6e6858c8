"""Kinds of jobs, and batches, by the prefix of their ids: the calls that read and change them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from services.cli.completion import complete_batch, complete_compression, complete_evaluation

if TYPE_CHECKING:
    from services.api.batch_schemas import BatchDocument
    from services.client import AsyncStillroomClient, StillroomClient
    from services.jobs.documents import EvaluationDocument, JobDocument, PlanJobDocument, SelectionDocument

    Document = JobDocument | SelectionDocument | PlanJobDocument | EvaluationDocument | BatchDocument
    Steps = JobDocument | SelectionDocument | PlanJobDocument | EvaluationDocument


@dataclass(frozen=True)
class Kind:
    """A kind of job, or batches.

    Attributes:
        name: Name of the kind, and of the member with its document in JSON lines.
        prefix: Beginning of its ids.
        read: The client's method that reads one.
        suffix: Ending of the client's methods that change one.
        resume: The client's method that queues failed ones again.
        forgets: Words for everything that is deleted with it.
        complete: Completes ids in a shell.
    """

    name: str
    prefix: str
    read: str
    suffix: str = ""
    resume: str = "resume"
    forgets: str = ""
    complete: Callable[[typer.Context, str], list[tuple[str, str]]] | None = None

    def call(self, client: StillroomClient | AsyncStillroomClient, verb: str, thing: str) -> Any:
        """Call the client's method that reads, cancels, resumes or deletes one of this kind."""
        method = {"read": self.read, "resume": f"{self.resume}{self.suffix}"}.get(verb, f"{verb}{self.suffix}")
        return getattr(client, method)(thing)


COMPRESSION = Kind(
    "compression", "cmp", "get", forgets=", its selections and its evaluations", complete=complete_compression
)
SELECTION = Kind("selection", "sel", "selection", "_selection")
PLAN = Kind("plan", "pln", "planned", "_plan")
EVALUATION = Kind("evaluation", "evl", "evaluation", "_evaluation", complete=complete_evaluation)
BATCH = Kind("batch", "bat", "batch", "_batch", "retry", ", its compressions and their folders", complete_batch)
_KINDS = {kind.prefix: kind for kind in (COMPRESSION, SELECTION, PLAN, EVALUATION, BATCH)}


def kind_of(thing: str) -> Kind:
    """Find the kind of an id; an unknown prefix counts as a compression's."""
    return _KINDS.get(thing.partition("_")[0], COMPRESSION)
