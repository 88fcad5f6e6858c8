"""Tables: by rich on a terminal, else as tab-separated lines with plain numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.cli.numbers import OVER_BEST, Cell, clean, plain, shown
from workloads.answers.fidelity import FIGURES
from workloads.shapes.architecture import Architecture
from workloads.spec.budgets import FLOORS

if TYPE_CHECKING:
    from services.api.batch_schemas import BatchResult
    from services.api.schemas import CandidateEntry, FrontierDocument, FrontierPoint, StudentFile
    from services.jobs.documents import CompressionSummary, JobDocument, SelectionDocument
    from workloads.documents.job_folder import InfeasibleDocument, StudentDocument

T = TypeVar("T")


def _figure_cell(name: str) -> Callable[[StudentDocument], Cell]:
    """Make the cell of a figure of fidelity, with its interval."""

    def cell(one: StudentDocument) -> Cell:
        value = None if one.fidelity is None else one.fidelity.figures.get(name)
        if one.fidelity is None or value is None:
            return None
        ends = one.fidelity.interval.get(name)
        return f"{value:.3f}" + (f" ({ends[0]:.3f} to {ends[1]:.3f})" if ends else "")

    return cell


_STUDENT: dict[str, Callable[[StudentDocument], Cell]] = {
    "budget": lambda one: one.budget,
    "shape": lambda one: shape(one.architecture),
    "params": lambda one: one.params,
    "FLOPs": lambda one: one.flops,
    "length": lambda one: one.sequence_length,
    "held-out loss": lambda one: one.heldout_loss,
    OVER_BEST: lambda one: getattr(one, "over_best", None),  # a student shown alone has none
    "task score": lambda one: one.task_score,
    "p50 ms": lambda one: one.latency.p50_ms if one.latency else None,
    "p95 ms": lambda one: one.latency.p95_ms if one.latency else None,
    "on": lambda one: one.latency.target.name if one.latency else None,
    "speed-up": lambda one: one.latency.speed_up if one.latency else None,
    "repeats": lambda one: ("agree" if one.latency.agrees else "disagree") if one.latency else None,
    "predicted ms": lambda one: (one.latency_prediction or {}).get("predicted_ms"),
    "prediction error": lambda one: (one.latency_prediction or {}).get("median_error"),
    **{name: _figure_cell(name) for name in FIGURES},
    "int8 error": lambda one: _int8_error(one.exports),
    "folder": lambda one: one.files or one.status,
}
"""The columns of students; columns without any value are left out."""
_COSTS: dict[str, tuple[str, Callable[[FrontierPoint], Cell]]] = {
    "params": ("params", lambda one: one.params),
    "params_without_embeddings": ("params less embeddings", lambda one: one.params_without_embeddings),
    "flops": ("FLOPs", lambda one: one.flops),
    "weight_bytes": ("weight bytes", lambda one: (one.weight_bytes or {}).get("float32", 0)),
    "activation_bytes": ("activation bytes", lambda one: one.activation_bytes),
    "latency": ("latency ms", lambda one: one.latency_ms),
}
"""The columns of a frontier, by cost."""
_AT_A_LENGTH = frozenset({"flops", "activation_bytes"})
_RESULT: dict[str, Callable[[BatchResult], Cell]] = {
    "compression": lambda one: one.compression,
    "teacher": lambda one: one.teacher,
    "budget": lambda one: one.budget,
    "student": lambda one: one.student or "infeasible",
    "shape": lambda one: shape(one.architecture) if one.architecture else None,
    "params": lambda one: one.params,
    "FLOPs": lambda one: one.flops,
    "length": lambda one: one.sequence_length,
    "held-out loss": lambda one: one.heldout_loss,
}
_CANDIDATE: dict[str, Callable[[CandidateEntry], Cell]] = {
    "sub-space": lambda one: one.subspace,
    "shape": lambda one: shape(one.architecture),
    "params": lambda one: one.params,
    "FLOPs": lambda one: one.flops,
    "length": lambda one: one.sequence_length,
    "held-out loss": lambda one: one.heldout_loss,
    "spread": lambda one: one.spread,
    "rows": lambda one: one.rows,
    "rung": lambda one: one.rung,
    "dropped by": lambda one: one.dropped_by,
}


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Print a table, or nothing if there are no rows.

    Args:
        title: Text above the table.
        columns: Names of the columns; :mod:`services.cli.numbers` formats numbers by them.
        rows: Rows with a value for each column.
    """
    console, found = Console(), [[clean(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    if not found:
        return
    if not console.is_terminal:
        for line in [columns, *found]:
            console.file.write("\t".join(map(plain, line)) + "\n")
        return
    table = Table(title=title)
    cells = []
    for column, values in zip(columns, zip(*found, strict=True), strict=True):
        number = any(isinstance(value, int | float) for value in values)
        table.add_column(column, justify="right" if number else "left", overflow="fold", no_wrap=number)
        cells.append(shown(column, values))
    for row in zip(*cells, strict=True):
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def print_students(students: Sequence[StudentDocument], infeasible: Sequence[InfeasibleDocument]) -> None:
    """Print the students, then the budgets that no candidate meets."""
    console = Console()
    cells = {title: [cell(one) for one in students] for title, cell in _STUDENT.items()}
    kept = {title: column for title, column in cells.items() if any(cell is not None for cell in column)}
    if students and console.is_terminal:
        kept["folder"] = [_short(str(place)) for place in kept["folder"]]
    names = list(kept)
    print_table("Students", names, list(zip(*kept.values(), strict=True)))
    for item in infeasible:
        say(f"Nothing meets the budget {item.budget}.{_nearest(item)}", console)


def print_selection(found: SelectionDocument) -> None:
    """Print a selection's answers to its budgets, and their limits."""
    print_students(found.students, found.infeasible)
    for name in found.unanswered:
        say(f"The budget {name} has no answer before its latency target is measured.", Console())
    if found.note is not None:
        say(found.note, Console(stderr=True))


def print_frontier(found: FrontierDocument) -> None:
    """Print the candidates of a frontier with its costs."""
    columns: dict[str, Callable[[FrontierPoint], Cell]] = {
        "sub-space": lambda one: one.subspace,
        "shape": lambda one: shape(one.architecture),
    }
    columns |= dict(_COSTS[cost] for cost in found.costs)
    if _AT_A_LENGTH & set(found.costs):
        columns["length"] = lambda one: one.sequence_length
    if found.latency is not None:
        columns["is"] = lambda one: "predicted" if one.latency_predicted else "measured"
    columns["held-out loss"] = lambda one: one.heldout_loss
    columns[OVER_BEST] = lambda one: one.over_best
    _print_columns(f"Frontier: {', '.join(found.costs)}", columns, found.points)
    if found.latency is not None:
        error = found.latency.error
        good = f"; predictions are off by {error.median:.1%}, the median" if error else ""
        place = f"{found.latency.percentile} on {found.latency.target.name}, {found.latency.device}"
        say(f"Latency: {place}{good}.", Console(stderr=True))
    if found.note is not None:
        say(found.note, Console(stderr=True))


def print_compressions(jobs: Sequence[CompressionSummary]) -> None:
    """Print a line for each compression."""
    columns = ("id", "status", "teacher", "budgets", "created")
    rows = [(job.id, job.status.value, job.teacher, ", ".join(job.budgets), when(job.created_at)) for job in jobs]
    print_table("Compressions", columns, rows)


def print_files(files: Sequence[StudentFile]) -> None:
    """Print a student's files."""
    print_table("Files", ("file", "bytes"), [(file.path, file.bytes) for file in files])


def print_candidates(entries: Sequence[CandidateEntry]) -> None:
    """Print candidates with their losses and costs, and why candidates were dropped."""
    _print_columns("Candidates", _CANDIDATE, entries)


def print_results(results: Sequence[BatchResult]) -> None:
    """Print a row for each student of a batch, and for each budget that no candidate meets."""
    _print_columns("Results", _RESULT, results)


def teacher_of(job: JobDocument) -> str:
    """Return the teacher of the request, and its kind if that is known."""
    teacher = job.request.get("teacher")
    model = str(teacher.get("model", "")) if isinstance(teacher, dict) else ""
    return model if job.teacher is None else f"{model} ({job.teacher.kind})"


def budgets_of(budgets: Any) -> str:
    """Return the names of budgets; empty if the server's answer is malformed."""
    found = budgets if isinstance(budgets, list) else []
    return ", ".join(str(one.get("name", "")) for one in found if isinstance(one, dict))


def when(time: datetime) -> str:
    """Format a time for people, in their time zone."""
    try:
        return time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError):  # outside of the calendar's range
        return time.isoformat()


def shape(architecture: dict[str, object]) -> str:
    """Describe a shape in words."""
    try:
        return Architecture.from_json(architecture).describe()
    except (KeyError, TypeError, ValueError, AttributeError):  # the server's answer is not trusted
        return "not understood"


def say(text: str, console: Console) -> None:
    """Print a sentence without markup or wrapping."""
    console.print(clean(text), markup=False, highlight=False, soft_wrap=True)


def _print_columns(title: str, columns: dict[str, Callable[[T], Cell]], entries: Sequence[T]) -> None:
    print_table(title, list(columns), [[cell(one) for cell in columns.values()] for one in entries])


def _int8_error(exports: dict[str, Any]) -> float | None:
    """Return the int8 error of the last hidden states, relative to the float32 file."""
    report = exports.get("int8_report")
    error = report.get("hidden_error") if isinstance(report, dict) else None
    return float(error) if isinstance(error, int | float) else None


def _short(folder: str) -> str:
    """Shorten a path below the current folder to its relative form, for narrow terminals."""
    here = Path.cwd()
    return str(Path(folder).relative_to(here)) if Path(folder).is_relative_to(here) else folder


def _nearest(item: InfeasibleDocument) -> str:
    if not item.nearest:
        return ""
    nearest = item.nearest[0]
    misses = ", ".join(
        f"{ratio - 1:.3f} below {limit}" if limit in FLOORS else f"{ratio:.2f} x {limit}"
        for limit, ratio in nearest.misses.items()
    )
    latency = f", {nearest.latency_ms:.3f} ms {nearest.latency_source}" if nearest.latency_ms is not None else ""
    return f" The nearest: {shape(nearest.architecture)}, at {misses}{latency}."
