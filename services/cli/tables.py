"""Tables: by rich on a terminal, tab-separated lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.api.batch_schemas import BatchResult
from services.api.schemas import CandidateEntry, FrontierDocument, FrontierPoint, StudentFile
from services.jobs.documents import CompressionSummary, JobDocument, SelectionDocument
from workloads.documents.job_folder import InfeasibleDocument, StudentDocument
from workloads.shapes.architecture import Architecture

_STUDENT: dict[str, Callable[[StudentDocument], str]] = {
    "budget": lambda one: one.budget,
    "shape": lambda one: _shape(one.architecture),
    "params": lambda one: f"{one.params:,}",
    "FLOPs": lambda one: f"{one.flops:,} @{one.sequence_length}",
    "held-out loss": lambda one: f"{one.heldout_loss:.4f}",
    "task score": lambda one: "" if one.task_score is None else f"{one.task_score:.4f}",
    "p50 ms": lambda one: f"{one.latency.p50_ms:.3f}" if one.latency else "",
    "p95 ms": lambda one: f"{one.latency.p95_ms:.3f}" if one.latency else "",
    "on": lambda one: one.latency.target.name if one.latency else "",
    "speed-up": lambda one: f"{one.latency.speed_up:.2f}x" if one.latency else "",
    "repeats": lambda one: ("agree" if one.latency.agrees else "disagree") if one.latency else "",
    "predicted ms": lambda one: _prediction(one.latency_prediction),
    "int8 error": lambda one: _int8_error(one.exports),
    "folder": lambda one: one.files or one.status,
}
"""The columns of students; one that none of them has a value for is left out."""
_COSTS: dict[str, tuple[str, Callable[[FrontierPoint], str]]] = {
    "params": ("params", lambda one: f"{one.params:,}"),
    "params_without_embeddings": ("params less embeddings", lambda one: f"{one.params_without_embeddings:,}"),
    "flops": ("FLOPs", lambda one: f"{one.flops:,} @{one.sequence_length}"),
    "weight_bytes": ("weight bytes", lambda one: f"{(one.weight_bytes or {}).get('float32', 0):,}"),
    "activation_bytes": ("activation bytes", lambda one: f"{one.activation_bytes:,} @{one.sequence_length}"),
    "latency": ("latency ms", lambda one: f"{one.latency_ms:.3f}"),
}
"""The columns of a frontier, by cost."""
_NUMBERS = frozenset(
    {"spread", "rows", "bytes", "rung", "held-out loss", "task score", "p50 ms", "p95 ms", "speed-up", "int8 error"}
    | {"params", "FLOPs", *(title for title, _ in _COSTS.values())}
)


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[str] = _NUMBERS
) -> None:
    """Print a table, or nothing where there are no rows.

    Args:
        title: Above it.
        columns: Their names.
        rows: A cell for each column.
        numbers: The columns that hold numbers.
    """
    console, found = Console(), list(rows)
    if not found:
        return
    if not console.is_terminal:
        for line in [columns, *found]:
            console.file.write("\t".join(line) + "\n")
        return
    table = Table(title=title)
    for column in columns:
        right = column in numbers
        table.add_column(column, justify="right" if right else "left", overflow="fold", no_wrap=right)
    for row in found:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def print_students(students: Sequence[StudentDocument], infeasible: Sequence[InfeasibleDocument]) -> None:
    """Print the students, with what there is to say of them, then the budgets that nothing meets."""
    console = Console()
    short = _short if console.is_terminal else str
    cells = {title: [cell(one) for one in students] for title, cell in _STUDENT.items()}
    shown = {title: column for title, column in cells.items() if any(column)}
    if students:
        shown["folder"] = [short(place) for place in shown["folder"]]
    print_table("Students", list(shown), list(zip(*shown.values(), strict=True)))
    for item in infeasible:
        _say(f"Nothing meets the budget {item.budget}.{_nearest(item)}", console)


def print_selection(found: SelectionDocument) -> None:
    """Print what a selection has for its budgets, and what limits that."""
    print_students(found.students, found.infeasible)
    for name in found.unanswered:
        _say(f"The budget {name} has no answer before its latency target is measured.", Console())
    if found.note is not None:
        _say(found.note, Console(stderr=True))


def print_frontier(found: FrontierDocument) -> None:
    """Print the candidates of a frontier, with the costs that it is drawn over."""
    columns = ["sub-space", "shape", *(_COSTS[cost][0] for cost in found.costs)]
    rows = [
        [one.subspace, _shape(one.architecture), *(_COSTS[cost][1](one) for cost in found.costs)]
        for one in found.points
    ]
    if found.latency is not None:
        columns.append("is")
        for row, one in zip(rows, found.points, strict=True):
            row.append("predicted" if one.latency_predicted else "measured")
    for row, one in zip(rows, found.points, strict=True):
        row.append(f"{one.heldout_loss:.4f}")
    print_table(f"Frontier: {', '.join(found.costs)}", [*columns, "held-out loss"], rows)
    if found.latency is not None:
        error = found.latency.error
        good = f"; predictions are off by {error.median:.1%}, the median" if error else ""
        place = f"{found.latency.percentile} on {found.latency.target.name}, {found.latency.device}"
        _say(f"Latency: {place}{good}.", Console(stderr=True))
    if found.note is not None:
        _say(found.note, Console(stderr=True))


def print_compressions(jobs: Sequence[CompressionSummary]) -> None:
    """Print a line for each compression."""
    rows = [[job.id, job.status, job.teacher or "", ", ".join(job.budgets), when(job.created_at)] for job in jobs]
    print_table("Compressions", ("id", "status", "teacher", "budgets", "created"), rows)


def print_files(files: Sequence[StudentFile]) -> None:
    """Print a student's files."""
    print_table("Files", ("file", "bytes"), [[file.path, f"{file.bytes:,}"] for file in files])


def print_candidates(entries: Sequence[CandidateEntry]) -> None:
    """Print candidates with their losses and costs, and why those that went were dropped."""
    columns = ["sub-space", "shape", "params", "FLOPs", "held-out loss", "spread", "rows", "rung", "dropped by"]
    rows = [
        [
            *(one.subspace, _shape(one.architecture), f"{one.params:,}", f"{one.flops:,} @{one.sequence_length}"),
            *(f"{one.heldout_loss:.4f}", f"{one.spread:.4f}", f"{one.rows:,}", str(one.rung), one.dropped_by or ""),
        ]
        for one in entries
    ]
    print_table("Candidates", columns, rows)


def print_results(results: Sequence[BatchResult]) -> None:
    """Print a row for each student of a batch, and for each budget that nothing meets."""
    rows = [
        [
            one.compression,
            one.teacher,
            one.budget,
            one.student or "infeasible",
            _shape(one.architecture) if one.architecture else "",
            "" if one.params is None else f"{one.params:,}",
            "" if one.flops is None else f"{one.flops:,} @{one.sequence_length}",
            "" if one.heldout_loss is None else f"{one.heldout_loss:.4f}",
        ]
        for one in results
    ]
    print_table(
        "Results", ("compression", "teacher", "budget", "student", "shape", "params", "FLOPs", "held-out loss"), rows
    )


def teacher_of(job: JobDocument) -> str:
    """The teacher as the request names it."""
    return str(job.request["teacher"]["model"])


def when(time: datetime) -> str:
    """A time for people, in their zone."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _say(text: str, console: Console) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _prediction(given: dict[str, float] | None) -> str:
    if given is None:
        return ""
    error = given.get("median_error")
    return f"{given['predicted_ms']:.3f}" + ("" if error is None else f" ±{error:.1%}")


def _int8_error(exports: dict[str, Any]) -> str:
    """Of the last hidden states, against the float32 file."""
    report = exports.get("int8_report")
    return f"{report['hidden_error']:.2%}" if report else ""


def _shape(architecture: dict[str, object]) -> str:
    return Architecture.from_json(architecture).describe()


def _short(folder: str) -> str:
    """A terminal is narrow: below the current folder, the rest of the path is enough."""
    here = Path.cwd()
    return str(Path(folder).relative_to(here)) if Path(folder).is_relative_to(here) else folder


def _nearest(item: InfeasibleDocument) -> str:
    if not item.nearest:
        return ""
    nearest = item.nearest[0]
    misses = ", ".join(f"{ratio:.2f} x {limit}" for limit, ratio in nearest.misses.items())
    latency = f", {nearest.latency_ms:.3f} ms {nearest.latency_source}" if nearest.latency_ms is not None else ""
    return f" The nearest: {_shape(nearest.architecture)}, at {misses}{latency}."
