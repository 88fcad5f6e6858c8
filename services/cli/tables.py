"""Tables: by rich on a terminal, tab-separated lines elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.api.batch_schemas import BatchResult
from services.api.schemas import CandidateEntry, FrontierPoint, StudentFile
from services.jobs.documents import JobDocument
from workloads.architecture import Architecture
from workloads.job_folder import CostDocument, InfeasibleDocument, StudentDocument

_STUDENT = ("budget", "shape", "params", "FLOPs", "held-out loss", "folder")
_NUMBERS = frozenset({"params", "FLOPs", "held-out loss", "spread", "rows", "bytes", "rung"})


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
    """Print the students, then the budgets that nothing meets."""
    console = Console()
    short = _short if console.is_terminal else str
    print_table("Students", _STUDENT, [[*cells, short(place)] for *cells, place in map(_student, students)])
    for item in infeasible:
        console.print(
            f"Nothing meets the budget {item.budget}.{_nearest(item)}", markup=False, highlight=False, soft_wrap=True
        )


def print_compressions(jobs: Sequence[JobDocument]) -> None:
    """Print a line for each compression."""
    rows = [
        [
            job.id,
            job.status,
            teacher_of(job),
            ", ".join(b["name"] for b in job.request["budgets"]),
            when(job.created_at),
        ]
        for job in jobs
    ]
    print_table("Compressions", ("id", "status", "teacher", "budgets", "created"), rows)


def print_files(files: Sequence[StudentFile]) -> None:
    """Print a student's files."""
    print_table("Files", ("file", "bytes"), [[file.path, f"{file.bytes:,}"] for file in files])


def print_points(title: str, points: Sequence[FrontierPoint | CandidateEntry]) -> None:
    """Print candidates with their losses and costs."""
    columns: list[str] = ["sub-space", "shape", "params", "FLOPs", "held-out loss"]
    scored = [point for point in points if isinstance(point, CandidateEntry)]
    rows = [
        [point.subspace, _shape(point.architecture), *_costs(point), f"{point.heldout_loss:.4f}"] for point in points
    ]
    if scored:
        columns += ["spread", "rows", "rung", "dropped by"]
        for row, one in zip(rows, scored, strict=True):
            row += [f"{one.spread:.4f}", f"{one.rows:,}", str(one.rung), one.dropped_by or ""]
    print_table(title, columns, rows)


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


def _student(student: StudentDocument) -> tuple[str, ...]:
    place = student.files or student.status
    return student.budget, _shape(student.architecture), *_costs(student), f"{student.heldout_loss:.4f}", place


def _costs(costs: CostDocument) -> tuple[str, str]:
    return f"{costs.params:,}", f"{costs.flops:,} @{costs.sequence_length}"


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
    return f" The nearest: {_shape(nearest.architecture)}, at {misses}."
