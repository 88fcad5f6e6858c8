"""The job's folder: the only channel between the service and the run.

::

    jobs/<job>/request.json                    the request, written by the service
    jobs/<job>/order.json                      the kind of job, written by the service
    jobs/<job>/attempts/<n>/progress.json      the steps, rewritten as they advance
    jobs/<job>/attempts/<n>/events.jsonl       the events, one JSON object per line
    jobs/<job>/attempts/<n>/result.json        written last; commits the attempt
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from workloads.answers.fidelity import Fidelity
from workloads.answers.latency import LatencyMeasure
from workloads.documents.pace import at_present
from workloads.shapes.costs import BYTES, Cost
from workloads.spec.evaluation import EvaluationResult
from workloads.spec.request import KindName

if TYPE_CHECKING:  # clients read the documents alone, without the storage's library
    from workloads.storage.storage import Storage


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)


_D = TypeVar("_D", bound=_Document)


class StepDocument(_Document):
    """One step of a run.

    ``rate`` is in units per second, averaged over the last 30 seconds; it falls while no progress is reported.
    """

    name: str
    status: Literal["pending", "running", "succeeded", "failed"] = "pending"
    done: int = 0
    total: int | None = None
    unit: str = ""
    rate: float | None = None
    seconds_left: float | None = None
    advanced_at: str | None = Field(None, description="Time of its last advance.")
    silent_seconds: float | None = Field(
        None, description="Seconds from its last advance to the time of this reading, of a running step."
    )
    reused: bool = False
    note: str | None = None


class ErrorDocument(_Document):
    """Reason of a job's failure; ``field`` and ``remedy`` are set if the user can correct it.

    The codes ``unreachable``, ``internal`` and ``lost`` are retried; ``invalid_input`` and ``storage`` are not.
    """

    code: Literal["invalid_input", "unreachable", "internal", "storage", "lost"]
    message: str
    field: str | None = None
    remedy: str | None = None


JobKind = Literal["compression", "selection", "plan", "evaluation"]


class OrderDocument(_Document):
    """Kind of a job; a selection names the scores table of a finished compression that it answers from.

    ``roots`` and ``hub`` limit what the request may read; see :class:`workloads.storage.places.Places`.
    """

    kind: JobKind = "compression"
    scores: str | None = None
    roots: tuple[str, ...] | None = None
    hub: tuple[str, ...] = ("*",)


class CostDocument(_Document):
    """Costs of a shape; ``flops`` and ``activation_bytes`` are for ``sequence_length`` tokens. See docs/costs.md."""

    params: int
    flops: int
    sequence_length: int
    params_without_embeddings: int | None = None
    weight_bytes: dict[str, int] | None = Field(None, description="Bytes of all weights, by number format.")
    activation_bytes: int | None = Field(
        None, description="Peak bytes of activations of one sequence, in float32; weights are not counted."
    )

    @staticmethod
    def fields_of(cost: Cost) -> dict[str, Any]:
        """Return the fields of this document for a cost."""
        return {
            "params": cost.params,
            "flops": cost.flops,
            "sequence_length": cost.sequence_length,
            "params_without_embeddings": cost.params_without_embeddings,
            "weight_bytes": {dtype: cost.weight_bytes(dtype) for dtype in BYTES},
            "activation_bytes": cost.activation_bytes,
        }


class StudentDocument(CostDocument):
    """A chosen student; ``files`` is its folder, relative to the storage."""

    id: str
    budget: str
    status: Literal["pending", "ready", "failed"] = Field("ready", description="State of its files.")
    subspace: str
    architecture: dict[str, Any]
    heldout_loss: float
    task_score: float | None = Field(None, description="Score on the proxy task.")
    polished_tokens: int = Field(0, description="Tokens that it was distilled on alone, after the search.")
    latency: LatencyMeasure | None = Field(None, description="Latency as measured on the budget's target.")
    latency_prediction: dict[str, float] | None = Field(
        None,
        description="The prediction before it was measured, in ms; the predictor's relative error on candidates left "
        "out of its fit; the number of its samples, and of doubtful ones, whose repeats disagreed.",
    )
    exports: dict[str, Any] = Field(default_factory=dict, description="ONNX files and the results of their checks.")
    fidelity: Fidelity | None = Field(
        None,
        description="Fidelity to the teacher, as exported; null for a teacher without an output to compare, and until "
        "its files are made.",
    )
    files: str | None


class NearestDocument(CostDocument):
    """A candidate that misses a budget.

    ``misses`` maps each broken limit to cost divided by limit, and each floor to 1 plus what is missing.
    """

    architecture: dict[str, Any]
    subspace: str
    sequence_length: int = 128
    heldout_loss: float
    misses: dict[str, float]
    latency_ms: float | None = Field(None, description="Latency on the budget's target, if the budget limits it.")
    latency_source: Literal["measured", "predicted"] | None = Field(None, description="Origin of latency_ms.")
    latency_agrees: bool | None = Field(
        None, description="Whether the repeats of the measurement agree; null if nothing was measured."
    )
    fidelity: dict[str, float] | None = Field(
        None,
        description="Figures of its fidelity to the teacher, in the SuperLM or as exported, if they were measured.",
    )


class TeacherDocument(CostDocument):
    """The teacher of a compression."""

    kind: KindName = Field("encoder", description="Kind that it was taken as.")
    fingerprint: str
    shape: dict[str, Any]


class KnownTeacherDocument(_Document):
    """What is known of a teacher from its folder."""

    kind: KindName = Field(description="Kind that it is taken as.")
    gives: str | None = Field(None, description="What it gives for a text, in words.")


class InfeasibleDocument(_Document):
    """A budget that no candidate meets, with the nearest candidates."""

    budget: str
    nearest: list[NearestDocument]


class EventDocument(_Document):
    """An event, numbered from 1 within the attempt."""

    sequence: int
    time: str
    type: str
    message: str
    data: dict[str, Any] = Field(default_factory=dict)


class ProgressDocument(_Document):
    """Progress of a run, by step."""

    updated_at: str
    steps: list[StepDocument] = Field(default_factory=list)
    stored_bytes: int | None = Field(None, description="As in a result; set if the attempt ends without one.")


class PlanStepDocument(_Document):
    """Estimate of one step; 0 seconds if the result of an earlier run is reused."""

    name: str
    seconds: float
    reused: bool
    basis: str = Field(description="Basis of the estimate.")


class PlanBudgetDocument(_Document):
    """Number of candidates in each sub-space that meet a budget."""

    budget: str
    candidates: dict[str, int]
    feasible: bool
    note: str | None = None


class PlanDocument(_Document):
    """Estimate of a compression's time, and whether its budgets can be met; made without training."""

    candidates: dict[str, int] = Field(description="Number of candidates by sub-space.")
    budgets: list[PlanBudgetDocument]
    steps: list[PlanStepDocument]
    seconds: float
    device_hours: float = Field(
        description="Hours that it occupies devices, summed over these: GPUs, or CPU cores on a cluster without GPUs."
    )
    device: str
    calibration_seconds: float = Field(description="Seconds that the calibration took.")
    teacher: KnownTeacherDocument | None = Field(None, description="The teacher; null in older plans.")


class ResultDocument(_Document):
    """Result of an attempt."""

    status: Literal["succeeded", "failed"]
    students: list[StudentDocument] = Field(default_factory=list)
    infeasible: list[InfeasibleDocument] = Field(default_factory=list)
    error: ErrorDocument | None = None
    artifacts: dict[str, list[str]] = Field(default_factory=dict, description="Fingerprints by stage.")
    teacher: TeacherDocument | None = None
    pictures: dict[str, str] = Field(default_factory=dict, description="Files of the pictures, by their subject.")
    plan: PlanDocument | None = Field(None, description="Result of a plan.")
    evaluation: EvaluationResult | None = Field(None, description="Result of an evaluation.")
    stored_bytes: int | None = Field(None, description="Bytes that all attempts of the job have put into the storage.")
    seconds: float = 0.0


class JobFolder:
    """Reader and writer of one job's documents.

    Args:
        storage: The storage that holds ``jobs/``.
        job: The job's id.
    """

    def __init__(self, storage: Storage, job: str) -> None:
        self.storage = storage
        self.job = job

    def path(self, name: str, attempt: int | None = None) -> str:
        """Return the path of a document, relative to the storage."""
        part = f"attempts/{attempt}/" if attempt is not None else ""
        return f"jobs/{self.job}/{part}{name}"

    def write_request(self, request: dict[str, Any]) -> None:
        """Write the request."""
        self.storage.write_json(self.path("request.json"), request)

    def read_request(self) -> Any:
        """Read the request, as JSON-like data."""
        return self.storage.read_json(self.path("request.json"))

    def write_order(self, order: OrderDocument) -> None:
        """Write the kind of job."""
        self._write(self.path("order.json"), order)

    def read_order(self) -> OrderDocument:
        """Read the kind of job; a folder without this document belongs to a compression."""
        return self._read(self.path("order.json"), OrderDocument) or OrderDocument()

    def write_progress(self, attempt: int, progress: ProgressDocument) -> None:
        """Replace the attempt's progress."""
        self._write(self.path("progress.json", attempt), progress)

    def read_progress(self, attempt: int) -> ProgressDocument | None:
        """Read the attempt's progress as of now; None if there is none yet."""
        found = self._read(self.path("progress.json", attempt), ProgressDocument)
        if found is None:
            return None
        moment = datetime.now(UTC)
        return found.model_copy(update={"steps": [at_present(step, moment) for step in found.steps]})

    def write_result(self, attempt: int, result: ResultDocument) -> None:
        """Write the attempt's result, which commits the attempt."""
        self._write(self.path("result.json", attempt), result)

    def read_result(self, attempt: int) -> ResultDocument | None:
        """Read the attempt's result; None until the attempt has ended."""
        return self._read(self.path("result.json", attempt), ResultDocument)

    def write_events(self, attempt: int, events: list[EventDocument]) -> None:
        """Replace the attempt's events (object stores cannot append)."""
        lines = "".join(f"{event.model_dump_json()}\n" for event in events)
        self.storage.write_bytes(self.path("events.jsonl", attempt), lines.encode())

    def read_events(self, attempt: int) -> list[EventDocument]:
        """Read the attempt's events, oldest first."""
        return self.read_more_events(attempt, 0)[0]

    def read_more_events(self, attempt: int, begin: int) -> tuple[list[EventDocument], int]:
        """Read the attempt's events from a byte offset on; return them and the offset of the next read."""
        try:
            data = b"".join(self.storage.stream(self.path("events.jsonl", attempt), begin=begin))
        except FileNotFoundError:
            return [], begin
        return [EventDocument.model_validate_json(line) for line in data.splitlines()], begin + len(data)

    def _write(self, path: str, document: _Document) -> None:
        self.storage.write_bytes(path, document.model_dump_json(indent=1).encode())

    def _read(self, path: str, kind: type[_D]) -> _D | None:
        try:
            return kind.model_validate_json(self.storage.read_bytes(path))
        except FileNotFoundError:
            return None


def student_id(job: str, budget: str) -> str:
    """Return the id of a job's student for a budget, which is the same in every attempt."""
    return f"stu_{hashlib.sha256(f'{job}/{budget}'.encode()).hexdigest()[:16]}"


def now() -> str:
    """Return the current time as RFC 3339, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
