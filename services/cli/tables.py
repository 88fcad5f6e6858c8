"""Tables: by rich on a terminal, tab-separated lines elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from workloads.architecture import Architecture
from workloads.job_folder import InfeasibleDocument, StudentDocument

_COLUMNS = ("budget", "shape", "params", "FLOPs", "held-out loss", "folder")


def print_students(students: Sequence[StudentDocument], infeasible: Sequence[InfeasibleDocument]) -> None:
    """Print the students, then the budgets that nothing meets."""
    console = Console()
    rows = [_row(student) for student in students]
    if console.is_terminal:
        rows = [(*row[:-1], _short(row[-1])) for row in rows]
    print_table("Students", _COLUMNS, rows, numbers={"params", "FLOPs", "held-out loss"})
    for item in infeasible:
        console.print(
            f"Nothing meets the budget {item.budget}.{_nearest(item)}", markup=False, highlight=False, soft_wrap=True
        )


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[str] = ()
) -> None:
    """Print a table; no rows print nothing.

    Args:
        title: Above it.
        columns: Their names.
        rows: A cell for each column.
        numbers: The columns that hold numbers.
    """
    console = Console()
    if not console.is_terminal:
        for line in [columns, *rows] if rows else []:
            console.file.write("\t".join(line) + "\n")
    elif rows:
        table = Table(title=title)
        for column in columns:
            right = column in numbers
            table.add_column(column, justify="right" if right else "left", overflow="fold", no_wrap=right)
        for row in rows:
            table.add_row(*map(escape, row))
        console.print(table)


def _row(student: StudentDocument) -> tuple[str, ...]:
    shape = Architecture.from_json(student.architecture).describe()
    flops = f"{student.flops:,} @{student.sequence_length}"
    place = student.files or student.status
    return student.budget, shape, f"{student.params:,}", flops, f"{student.heldout_loss:.4f}", place


def _short(folder: str) -> str:
    """A terminal is narrow: below the current folder, the rest of the path is enough."""
    here = Path.cwd()
    return str(Path(folder).relative_to(here)) if Path(folder).is_relative_to(here) else folder


def _nearest(item: InfeasibleDocument) -> str:
    if not item.nearest:
        return ""
    nearest = item.nearest[0]
    misses = ", ".join(f"{ratio:.2f} x {limit}" for limit, ratio in nearest.misses.items())
    return f" The nearest: {Architecture.from_json(nearest.architecture).describe()}, at {misses}."
