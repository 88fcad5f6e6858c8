"""Reports on jobs: state, results, reasons of failures; and the exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from services.api.batch_schemas import BatchDocument, BatchSummary
from services.cli.failures import FAILED
from services.cli.numbers import clean
from services.cli.progress_view import headline, notes, step_line
from services.cli.tables import print_selection, print_students, print_table, teacher_of, when
from services.jobs.documents import EvaluationDocument, JobDocument, PlanJobDocument, SelectionDocument
from services.jobs.states import JobStatus

if TYPE_CHECKING:
    from services.cli.kinds import Document, Steps
    from workloads.documents.job_folder import ErrorDocument, PlanDocument


def print_document(found: Document) -> None:
    """Print the results of a succeeded job, else its state and the reason."""
    match found:
        case JobDocument(status=JobStatus.SUCCEEDED):
            print_students(found.students, found.infeasible)
        case JobDocument():
            tell_error(found.error)
        case SelectionDocument():
            print_selection(found)
            tell_error(found.error)
        case PlanJobDocument():
            print_plan(found)
        case EvaluationDocument():
            print_evaluation(found)
        case BatchDocument():
            print_batch(found)


def show_document(found: Document) -> None:
    """Print a job's state in detail, and its results."""
    match found:
        case JobDocument():
            _say(headline(found), f"teacher   {teacher_of(found)}", *_times(found))
            _say(*(f"attempt {one.number} {one.status}{f': {one.reason}' if one.reason else ''}"
                   for one in found.attempts))  # fmt: skip
            _say(*_steps(found))
            print_students(found.students, found.infeasible)
            tell_error(found.error)
        case SelectionDocument():
            _say(headline(found), f"of        {found.compression}", *_times(found), *_steps(found))
            print_document(found)
        case PlanJobDocument():
            _say(headline(found), *_times(found), *_steps(found))
            print_document(found)
        case _:
            print_document(found)


def print_plan(found: PlanJobDocument) -> None:
    """Print a plan's estimates, or its state."""
    if found.plan is None:
        _say(f"{found.id} is {found.status}{f': {found.reason}' if found.reason else ''}.")
    else:
        _print_estimate(found.plan)
    tell_error(found.error)


def print_evaluation(found: EvaluationDocument) -> None:
    """Print the scores of an evaluation, or its state."""
    if found.result is None:
        _say(f"{found.id} ({found.name}, {model_of(found)}) is {found.status}.")
    else:
        result = found.result
        spread = f" ± {result.std:.4f}" if result.std is not None else ""
        _say(
            f"{found.name}: {result.metric} {result.mean:.4f}{spread} over {len(result.seeds)} seeds "
            f"on {result.rows:,} rows; always the same answer scores {result.baseline.score:.4f}."
        )
        rows = [(one.seed, one.score, one.epoch, f"{one.learning_rate:g}") for one in result.seeds]
        print_table("Seeds", ("seed", "score", "epoch", "learning rate"), rows)
        _say(*(f"model of seed {one.seed}: {one.files}" for one in result.seeds if one.files is not None))
    tell_error(found.error)


def print_batch(found: BatchDocument) -> None:
    """Print the states of a batch and of its compressions."""
    name = f" ({found.name})" if found.name else ""
    _say(f"{found.id}{name} is {found.status}: {counts_of(found)}.")
    rows = [(one.id, one.teacher, one.status.value, one.reason) for one in found.compressions]
    print_table("Compressions", ("id", "teacher", "status", "reason"), rows)


def counts_of(batch: BatchSummary) -> str:
    """Describe the numbers of a batch's compressions by state."""
    return ", ".join(f"{batch.counts[status]} {status}" for status in JobStatus if status in batch.counts)


def model_of(found: EvaluationDocument) -> str:
    """Return the evaluated model: a student's id, or the teacher of the request."""
    model = found.model
    if model is None:
        return ""
    return model.student or (model.teacher.model if model.teacher else "")


def tell_error(error: ErrorDocument | None) -> None:
    """Print why a job has failed, if it has."""
    if error is not None:
        field = f"{error.field}: " if error.field else ""
        typer.echo(clean(f"error: {field}{error.message} {error.remedy or ''}".rstrip()), err=True)


def exit_code(found: Document) -> int:
    """Return the exit code: 0 for a succeeded job, else 1."""
    return 0 if found.status == "succeeded" else FAILED


def _print_estimate(plan: PlanDocument) -> None:
    if plan.teacher is not None:
        _say(f"teacher: {plan.teacher.kind}, gives {plan.teacher.gives}")
    _say(f"candidates: {', '.join(f'{name} {count}' for name, count in plan.candidates.items())}")
    for budget in plan.budgets:
        counts = ", ".join(f"{name} {count}" for name, count in budget.candidates.items())
        note = f" ({budget.note})" if budget.note else ""
        _say(f"budget {budget.budget}: {counts if budget.feasible else 'no candidate'}{note}")
    for step in plan.steps:
        _say(f"{step.name:<14} {'reused' if step.reused else f'{step.seconds:.0f} s':>8}  {step.basis}")
    _say(
        f"in all {plan.seconds:.0f} s, {plan.device_hours:.3g} {plan.device} hours; "
        f"the calibration took {plan.calibration_seconds:.0f} s"
    )


def _times(found: Steps) -> list[str]:
    times = [f"created   {when(found.created_at)}"]
    return times if found.finished_at is None else [*times, f"finished  {when(found.finished_at)}"]


def _steps(found: Steps) -> list[str]:
    return [
        *(f"  {step_line(step)}" for step in found.steps),
        *(f"  {names}: {note}" for note, names in notes(found).items()),
    ]


def _say(*lines: str) -> None:
    for line in lines:
        typer.echo(clean(line))
