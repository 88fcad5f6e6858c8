"""Documents of batches, and the table of their results."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.jobs.documents import current_step, with_place
from services.jobs.states import BatchStatus, JobStatus
from workloads.documents.job_folder import InfeasibleDocument, ResultDocument, StepDocument, StudentDocument
from workloads.spec.request import KindName

if TYPE_CHECKING:  # the client imports these models, and must load neither SQLAlchemy nor pyarrow
    from services.jobs.batches import Batch, Member
    from workloads.storage.storage import Storage

# A spreadsheet reads a cell that begins with one of these as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)


class BatchSummary(_Document):
    """A batch without its compressions."""

    id: str
    name: str | None
    status: BatchStatus = Field(
        description="partial: all have ended, and some have succeeded; empty: all have been deleted."
    )
    counts: dict[JobStatus, int] = Field(description="Numbers of compressions by state; empty states are left out.")
    max_running: int | None = Field(description="Limit of its compressions that run at the same time; null: none.")
    labels: dict[str, str]
    created_at: datetime
    finished_at: datetime | None = Field(None, description="End of its last compression.")


class BatchedCompression(_Document):
    """Summary of a compression of a batch; `/v1/compressions/{id}` shows it in full."""

    id: str
    teacher: str
    teacher_kind: KindName | None = Field(None, description="Kind of the teacher, if it was known on acceptance.")
    status: JobStatus
    reason: str | None = Field(None, description="Why it is in this state, if that is not obvious.")
    attempt: int
    progress: StepDocument | None = Field(None, description="Current step of a running compression.")


class BatchDocument(BatchSummary):
    """A batch: its state, and each of its compressions."""

    compressions: list[BatchedCompression] = Field(description="In the order of the request.")


class BatchPage(_Document):
    """Batches, newest first."""

    batches: list[BatchSummary]
    next: str | None = Field(None, description="Give it as `after` for the next page; null at the end.")


class BatchResult(_Document):
    """A student, or an infeasible budget with the numbers of the nearest candidate."""

    compression: str
    teacher: str
    outcome: Literal["student", "infeasible"]
    budget: str
    student: str | None = None
    subspace: str | None = None
    architecture: dict[str, Any] | None = None
    params: int | None = None
    flops: int | None = None
    sequence_length: int | None = Field(None, description="Tokens that flops are counted at.")
    heldout_loss: float | None = None
    task_score: float | None = None
    latency_target: str | None = None
    latency_ms_p50: float | None = None
    fidelity: dict[str, float] | None = Field(None, description="Figures of its fidelity to the teacher.")
    misses: dict[str, float] | None = Field(
        None,
        description="Cost of the nearest candidate divided by the limit, for each limit that it exceeds; for a floor, "
        "1 plus what is missing.",
    )
    teacher_params: int | None = None
    teacher_flops: int | None = None
    files: str | None = None


class UnansweredCompression(_Document):
    """A compression of a batch without results, or without results so far."""

    compression: str
    teacher: str
    status: JobStatus


class BatchResults(_Document):
    """Table of a batch's results, over all teachers."""

    batch: str
    status: BatchStatus
    results: list[BatchResult] = Field(description="In the order of the request.")
    unanswered: list[UnansweredCompression]


def batch_summary(batch: Batch) -> BatchSummary:
    """Build a batch's document without its compressions."""
    return BatchSummary(**_fields(batch))


def batch_document(batch: Batch, members: Iterable[Member], storage: Storage) -> BatchDocument:
    """Build a batch's document; the progress of running compressions is read from the storage."""
    compressions = [
        BatchedCompression(
            id=member.id,
            teacher=member.teacher,
            teacher_kind=member.teacher_kind,
            status=member.status,
            reason=member.reason,
            attempt=member.attempt,
            progress=_progress(member, storage),
        )
        for member in members
    ]
    return BatchDocument(**_fields(batch), compressions=compressions)


def batch_results(
    batch: Batch, found: Iterable[tuple[Member, ResultDocument | None]], storage: Storage
) -> BatchResults:
    """Build the table of a batch's results."""
    rows: list[BatchResult] = []
    unanswered: list[UnansweredCompression] = []
    for member, result in found:
        if result is not None and result.status == "succeeded":
            rows.extend(_rows(member, result, storage))
        else:
            unanswered.append(
                UnansweredCompression(compression=member.id, teacher=member.teacher, status=member.status)
            )
    return BatchResults(batch=batch.id, status=batch.status, results=rows, unanswered=unanswered)


def results_csv(found: Iterable[tuple[Member, ResultDocument | None]], storage: Storage) -> Iterator[str]:
    """Yield the table as CSV, line by line; shapes and misses are JSON in their cells."""
    yield _csv_line(list(BatchResult.model_fields))
    for member, result in found:
        if result is not None and result.status == "succeeded":
            for row in _rows(member, result, storage):
                yield _csv_line([_cell(value) for value in row.model_dump(mode="json").values()])


def _fields(batch: Batch) -> dict[str, Any]:
    return {
        "id": batch.id,
        "name": batch.name,
        "status": batch.status,
        "counts": dict(batch.counts),
        "max_running": batch.max_running,
        "labels": batch.labels,
        "created_at": batch.created_at,
        "finished_at": batch.finished_at,
    }


def _progress(member: Member, storage: Storage) -> StepDocument | None:
    return current_step(storage, member.id, member.attempt) if member.status is JobStatus.RUNNING else None


def _rows(member: Member, result: ResultDocument, storage: Storage) -> Iterator[BatchResult]:
    teacher = result.teacher
    common: dict[str, Any] = {
        "compression": member.id,
        "teacher": member.teacher,
        "teacher_params": teacher.params if teacher else None,
        "teacher_flops": teacher.flops if teacher else None,
    }
    for student in result.students:
        yield BatchResult(**common, **_student_fields(with_place(student, storage)))
    for infeasible in result.infeasible:
        yield BatchResult(**common, **_infeasible_fields(infeasible))


def _student_fields(student: StudentDocument) -> dict[str, Any]:
    latency = student.latency
    return {
        "outcome": "student",
        "budget": student.budget,
        "student": student.id,
        "subspace": student.subspace,
        "architecture": student.architecture,
        "params": student.params,
        "flops": student.flops,
        "sequence_length": student.sequence_length,
        "heldout_loss": student.heldout_loss,
        "task_score": student.task_score,
        "latency_target": latency.target.name if latency else None,
        "latency_ms_p50": latency.p50_ms if latency else None,
        "fidelity": dict(student.fidelity.figures) if student.fidelity else None,
        "files": student.files,
    }


def _infeasible_fields(infeasible: InfeasibleDocument) -> dict[str, Any]:
    fields: dict[str, Any] = {"outcome": "infeasible", "budget": infeasible.budget}
    if infeasible.nearest:
        nearest = infeasible.nearest[0]
        names = ("subspace", "architecture", "params", "flops", "sequence_length", "heldout_loss", "misses", "fidelity")
        fields |= {name: getattr(nearest, name) for name in names}
    return fields


def _cell(value: Any) -> Any:
    if isinstance(value, dict):
        return json.dumps(value)
    # Names come from requests, the older ones of any text: a spreadsheet must not run them.
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _csv_line(cells: list[Any]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()
