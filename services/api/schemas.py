"""Models of the API's answers, except documents of jobs."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from services.access.caller import Scope
from services.jobs.documents import (
    CompressionSummary,
    EvaluationDocument,
    EventEntry,
    PlanJobDocument,
    RayDocument,
    SelectionDocument,
    ShownStudent,
)
from services.jobs.states import JobStatus
from workloads.answers.latency import HeldOutError, Percentile
from workloads.documents.job_folder import CostDocument, InfeasibleDocument, StudentDocument
from workloads.spec.budgets import LatencyTarget
from workloads.spec.search import Metric


class _Document(BaseModel):
    # The command line imports all of these and uses few.
    model_config = ConfigDict(defer_build=True)


class JobPage(_Document):
    """Compressions, newest first."""

    compressions: list[CompressionSummary]
    next: str | None = Field(None, description="Give it as `after` for the next page; null at the end.")


class EventPage(_Document):
    """Events, oldest first."""

    events: list[EventEntry]
    next: str | None = Field(description="Give it as `after` for the next page; null on the last page so far.")
    last: str = Field(description="Place of the last event returned; as `after` it gets all later events.")


class StudentList(_Document):
    """The students of a job."""

    students: list[ShownStudent]
    infeasible: list[InfeasibleDocument]


class SelectionPage(_Document):
    """Selections, newest first."""

    selections: list[SelectionDocument]
    next: str | None = Field(None, description="Give it as `after` for the next page; null at the end.")


class PlanPage(_Document):
    """Plans, newest first."""

    plans: list[PlanJobDocument]
    next: str | None = Field(None, description="Give it as `after` for the next page; null at the end.")


class EvaluationPage(_Document):
    """Evaluations, newest first."""

    evaluations: list[EvaluationDocument]
    next: str | None = Field(None, description="Give it as `after` for the next page; null at the end.")


class ScoredPoint(CostDocument):
    """A candidate, its loss and its costs."""

    subspace: str
    architecture: dict[str, Any]
    heldout_loss: float
    fidelity: dict[str, float] | None = Field(
        None, description="Figures of its fidelity to the teacher, in the SuperLM, if they were measured."
    )


class FrontierPoint(ScoredPoint):
    """A candidate of the Pareto front."""

    over_best: float | None = Field(
        None,
        description="Held-out loss divided by the smallest of these points, minus 1: 0.05 is 5 % more. Null if the "
        "smallest is not positive.",
    )
    latency_ms: float | None = Field(None, description="Latency on the frontier's target, if latency is a cost.")
    latency_predicted: bool | None = Field(None, description="Whether latency_ms is predicted, not measured.")


class FrontierLatency(_Document):
    """The latency's target and percentile, and the quality of its predictions."""

    target: LatencyTarget
    percentile: Percentile
    device: str = Field(description="Model of the CPU or GPU.")
    error: HeldOutError | None = Field(description="Relative error of predictions on held-out candidates.")


class CandidateEntry(ScoredPoint):
    """A candidate with its result of the search."""

    spread: float = Field(description="Standard error of the loss.")
    rows: int | None = Field(description="Held-out rows it was scored on; null if it was trained and scored alone.")
    rung: int | None = Field(description="The last rung it reached, from 0; null if it was trained and scored alone.")
    dropped_by: str | None = Field(description="Reason why it was dropped; null if it may be chosen as a student.")


class CandidatePage(_Document):
    """Scored candidates, in the order of the sub-spaces."""

    candidates: list[CandidateEntry]
    next: str | None = Field(None, description="Give it as `after` for the next page; null at the end.")


class LatencyTargetList(_Document):
    """Latency targets."""

    latency_targets: list[LatencyTarget]


class FrontierDocument(_Document):
    """The Pareto front of held-out loss against one or two costs, the cheapest first."""

    costs: list[str]
    sequence_length: int
    latency: FrontierLatency | None = Field(None, description="Set if latency is one of the costs.")
    note: str | None = Field(None, description="Note on the limits of the answer.")
    points: list[FrontierPoint]


class StudentFile(_Document):
    """A file of a student or of a kept model."""

    path: str
    bytes: int


class StudentEvaluation(_Document):
    """Summary of an evaluation of a student."""

    id: str
    name: str = Field(description="Name of the task in the request.")
    status: JobStatus
    metric: Metric
    mean: float | None = Field(None, description="Mean score over the seeds; null until it has succeeded.")
    std: float | None = Field(None, description="Standard deviation over the seeds; null for one seed.")
    baseline: float | None = Field(None, description="Score of a constant answer.")


class StudentDetail(StudentDocument):
    """A student with its files and evaluations."""

    contents: list[StudentFile]
    evaluations: list[StudentEvaluation] = Field(description="Newest first, at most 200.")
    archive: str = Field(description="Path of the student's tar archive in the API.")


class KeptModel(_Document):
    """The fine-tuned model of a seed of an evaluation."""

    id: str = Field(description="Id of the model; its folder in the archive has this name.")
    seed: int
    score: float
    files: str = Field(description="Its folder in the storage.")
    contents: list[StudentFile]
    archive: str = Field(description="Path of its tar archive in the API.")


class KeptModelList(_Document):
    """The fine-tuned models that an evaluation has kept."""

    models: list[KeptModel]


class Health(_Document):
    """Whether the service answers, and whether runs can be started."""

    status: str
    ray: RayDocument | None = None


class ResourceAmount(_Document):
    """Amount of a resource."""

    total: float
    free: float | None = Field(description="Amount that is neither in use nor reserved; null if Ray does not give it.")


class ClusterNode(_Document):
    """A live node of Ray."""

    id: str
    head: bool
    cpus: ResourceAmount
    gpus: ResourceAmount
    memory_bytes: ResourceAmount


class ClusterDocument(_Document):
    """The Ray cluster that runs use; without nodes and sums while Ray does not answer."""

    ray: RayDocument
    nodes: list[ClusterNode] = Field([], description="The head is first.")
    cpus: ResourceAmount | None = None
    gpus: ResourceAmount | None = None
    memory_bytes: ResourceAmount | None = None


class QuotaDocument(_Document):
    """Limits of a tenant; null for no limit."""

    max_running: int | None = Field(description="Jobs that run at the same time; more of them wait.")
    max_unfinished: int | None = Field(description="Jobs that wait or run.")
    max_tokens: int | None = Field(description="Tokens to train on, over all time.")
    max_stored_bytes: int | None = Field(
        description="Bytes of artefacts that its jobs have built, until they are deleted and pruned."
    )


class UsageDocument(_Document):
    """Usage of a tenant."""

    running: int
    unfinished: int
    tokens: int
    stored_bytes: int


class MeDocument(_Document):
    """The caller's identity, quotas and usage."""

    tenant: str
    scopes: list[Scope]
    key_id: str | None = Field(description="Id of the key; null if the service requires none.")
    quotas: QuotaDocument
    usage: UsageDocument


class ErrorEntry(_Document):
    """One finding about a request."""

    field: str = Field(description="Dotted path of the field, or the parameter's name.")
    pointer: str | None = Field(
        None, description="JSON pointer into the body; null for a finding about another part of the request."
    )
    problem: str
    remedy: str


class Problem(_Document):
    """A problem document (RFC 9457)."""

    type: str = "about:blank"
    code: str = Field(description="Stable code of the problem, for programs.")
    title: str
    status: int
    detail: str
    errors: list[ErrorEntry] = []
