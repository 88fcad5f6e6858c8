"""Acceptance of evaluations: the model and the task's local files are checked; the run checks the rest."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from services.access.caller import Caller
from services.intake.files import absolute, missing_files, outside_files
from services.jobs.records import Job
from services.jobs.rows import UnknownJobError
from services.jobs.store import JobStore
from services.jobs.students import find_student
from workloads.documents.job_folder import StudentDocument
from workloads.shapes.architecture import TeacherShape
from workloads.shapes.teacher_files import check_teacher, is_path
from workloads.spec.errors import FieldError, InputError
from workloads.spec.evaluation import (
    TASK,
    AcceptedEvaluation,
    EvaluationRequest,
    EvaluationTask,
    renamed,
    with_fitting_length,
)
from workloads.spec.json_text import parse_json
from workloads.storage.places import Places
from workloads.storage.walking import kind_of

_LONGEST_LINE = 1 << 20
"""Most characters of a line to read for the names of columns."""
_MOST_BYTES, _MOST_SECONDS = 256 << 20, 1.0
"""Limits up to which rows are counted while a request waits for its answer."""
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Accepted:
    """An accepted evaluation.

    Attributes:
        request: The request in the stored form.
        tenant: Owner of the evaluation: the student's tenant, or the caller's for any other model.
        compression: Id of the student's compression; None for any other model.
        tokens: Upper bound of the tokens to train on.
    """

    request: AcceptedEvaluation
    tenant: str
    compression: str | None
    tokens: int


def accept_evaluation(asked: EvaluationRequest, jobs: JobStore, places: Places, caller: Caller) -> Accepted:
    """Check the model and the files that a request names.

    Args:
        asked: A well-formed request.
        jobs: The compressions, with their students.
        places: Places that requests may read.
        caller: Sender of the request.

    Raises:
        InputError: Something is missing or not allowed; one finding per field.
    """
    asked = with_absolute_paths(asked)
    findings: list[FieldError] = []
    compression, student = None, None
    try:
        if asked.model.teacher is not None:
            shape = check_teacher(asked.model.teacher, places)
            longest = None if shape is None else shape.longest
        else:
            compression, student = _student(asked, jobs, caller)
            longest = _longest(compression)
        if longest is not None:  # else the run sets and checks the length
            asked = with_fitting_length(asked, longest)
    except InputError as error:
        findings.extend(renamed(error, "teacher", "model.teacher").errors)
    findings.extend(task_findings(asked.task, places))
    if findings:
        raise InputError(findings)
    tenant = caller.tenant if compression is None else compression.tenant
    return Accepted(
        asked.accepted(None if student is None else student.files),
        tenant,
        None if compression is None else compression.id,
        _tokens(asked, jobs.limits_tokens(tenant)),
    )


def _tokens(asked: EvaluationRequest, limited: bool) -> int:
    """Upper bound of the tokens to train on; if a quota limits them, rows that are not counted need a limit."""
    task = asked.task
    local = [Path(path) for path in task.train if "://" not in path]
    found = _count_rows(local, task.max_train_rows)
    rows, counted = found.most, found.counted and len(local) == len(task.train)
    if task.max_train_rows is not None and (rows > task.max_train_rows or not counted):
        rows = task.max_train_rows
    elif not counted and limited:
        why = (
            f"rows are counted only in the first {_MOST_BYTES >> 20} MiB of files, for at most {_MOST_SECONDS:g} s"
            if len(local) == len(task.train)
            else "the number of rows of files in buckets is unknown"
        )
        raise InputError.of(
            f"{TASK}.max_train_rows", f"Your quota limits tokens to train on, and {why}.", "Set max_train_rows."
        )
    return asked.training_tokens(rows)


def _student(asked: EvaluationRequest, jobs: JobStore, caller: Caller) -> tuple[Job, StudentDocument]:
    assert asked.model.compression is not None
    assert asked.model.student is not None
    try:
        compression = jobs.get(asked.model.compression, "compression", tenant=caller.sees)
    except UnknownJobError as error:
        raise InputError.of(
            "model.compression", f"There is no compression {error}.", "Give the id of a compression that has succeeded."
        ) from error
    student = find_student(jobs, compression, asked.model.student)
    if student is None:
        raise InputError.of(
            "model.student",
            f"{compression.id} is {compression.status} and has no student {asked.model.student}.",
            "Give the id of a student whose files are ready, of the compression or of a selection from it.",
        )
    return compression, student


def _longest(compression: Job) -> int | None:
    """Tokens that a compression's teacher, and so each student, reads; None where an older version did not keep it."""
    teacher = None if compression.result is None else compression.result.teacher
    try:
        return None if teacher is None else TeacherShape.from_json(teacher.shape).longest
    except (KeyError, TypeError):
        return None


def with_absolute_paths(asked: EvaluationRequest) -> EvaluationRequest:
    """Make local paths absolute, since a run has another working folder."""
    task, teacher = asked.task, asked.model.teacher
    sides = {side: [absolute(path) for path in getattr(task, side)] for side in ("train", task.scored_on)}
    model = asked.model
    if teacher is not None and is_path(teacher.model):
        model = model.model_copy(update={"teacher": teacher.model_copy(update={"model": absolute(teacher.model)})})
    return asked.model_copy(update={"task": task.model_copy(update=sides), "model": model})


def task_findings(task: EvaluationTask, places: Places) -> list[FieldError]:
    """Findings about the task's files on this machine; the run checks those in buckets."""
    sides = ("train", task.scored_on)
    if outside := outside_files(task, TASK, sides, places):
        return outside
    findings = missing_files(task, TASK, sides)
    wanted = [
        *((f"text_columns.{index}", name) for index, name in enumerate(task.text_columns)),
        ("label_column", task.label_column),
    ]
    told: set[str] = set()
    for side in ("train", task.scored_on):
        for index, path in enumerate(getattr(task, side)):
            if "://" in path or (kind := kind_of(path)) is None:
                continue
            field = f"{TASK}.{side}.{index}"
            if kind != "file":
                findings.append(
                    FieldError(field, f"{path} is not a regular file.", "Give a file, not a folder or a pipe.")
                )
                continue
            try:
                columns = _columns(Path(path))
            except Exception as error:  # the libraries raise many kinds of errors on damaged files
                findings.append(FieldError(field, f"{path} cannot be read: {error}.", "Repair or replace the file."))
                continue
            for field, name in wanted:
                if name not in columns and field not in told:
                    told.add(field)
                    findings.append(_no_column(field, name, path, columns))
    return findings


def _no_column(field: str, name: str, path: str, columns: Sequence[str]) -> FieldError:
    remedy = f"Use one of: {', '.join(columns)}." if columns else "Give a file with columns."
    return FieldError(f"{TASK}.{field}", f"{path} has no column {name!r}.", remedy)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of files.

    Attributes:
        most: An upper bound of those that were counted, with an estimate by size of those that were not.
        counted: Whether no more is needed to know the bound.
    """

    most: int
    counted: bool


def _count_rows(paths: Sequence[Path], enough: int | None) -> _Rows:
    """Count the rows of files up to ``enough``, within the bounds of what is read at submission."""
    until = time.monotonic() + _MOST_SECONDS
    rows = lines = read = size = 0
    for path in paths:
        left = None if enough is None else enough - rows - lines
        if left is not None and left <= 0:
            break
        if path.suffix.lower() == ".parquet":
            rows += int(pq.read_metadata(path).num_rows)
            continue
        found, done = _count_lines(path, _MOST_BYTES - read, until, left)
        lines, read, size = lines + found, read + done, size + path.stat().st_size
    if read >= size or (enough is not None and rows + lines >= enough):
        return _Rows(rows + lines, True)
    return _Rows(rows + math.ceil(lines * size / max(1, read)), False)


def _count_lines(path: Path, most: int, until: float, enough: int | None) -> tuple[int, int]:
    """Return an upper bound of a file's rows, and the bytes that were read: in CSV a row may contain line breaks."""
    header = path.suffix.lower() == ".csv"
    breaks, read, last = 0, 0, b"\n"
    with path.open("rb") as file:
        while read < most and time.monotonic() < until and (enough is None or breaks - header < enough):
            if not (piece := file.read(_PIECE)):
                break
            read += len(piece)
            breaks += piece.count(b"\n") + piece.count(b"\r") - piece.count(b"\r\n")
            last = piece[-1:]
    rows = breaks + (last not in b"\r\n")
    return (rows - 1 if rows and header else rows), read


def _columns(path: Path) -> list[str]:
    """Names of a file's columns, read from its beginning."""
    ending = path.suffix.lower()
    if ending == ".parquet":
        return list(pq.read_schema(path).names)
    if ending == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as rows:
            return next(csv.reader(iter(lambda: rows.readline(_LONGEST_LINE), "")), [])
    with path.open(encoding="utf-8-sig") as file:
        first = next((line for line in iter(lambda: file.readline(_LONGEST_LINE), "") if line.strip()), "{}")
    row = parse_json(first)
    return list(row) if isinstance(row, dict) else []
