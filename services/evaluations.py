"""Evaluations as the service offers them: the model found, the task's files looked at, the rest left to the run."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from services.access.caller import LOCAL, Caller
from services.jobs.intake import absolute, missing_files, outside_files
from services.jobs.records import Job, RequestKey
from services.jobs.rows import UnknownJobError
from services.jobs.store import MAX_PAGE, JobStore
from services.jobs.students import find_student
from workloads.documents.job_folder import StudentDocument
from workloads.shapes.teacher_files import check_teacher, is_path
from workloads.spec.errors import FieldError, InputError
from workloads.spec.evaluation import (
    TASK,
    AcceptedEvaluation,
    EvaluationRequest,
    EvaluationTask,
    parse_evaluation,
    renamed,
)
from workloads.storage.places import Places
from workloads.storage.storage import Storage

log = structlog.get_logger(__name__)


class Evaluations:
    """The evaluations of one service.

    Args:
        jobs: Where they are kept.
        storage: Where the students are.
        places: Where requests may read.
        wake: Has the controller look at the jobs.
    """

    def __init__(self, jobs: JobStore, storage: Storage, places: Places, wake: Callable[[], None]) -> None:
        self._jobs = jobs
        self._storage = storage
        self._places = places
        self._wake = wake

    def submit(self, data: Any, key: RequestKey | None = None, *, caller: Caller = LOCAL) -> Job:
        """Check a request and queue it; one whose key was sent before gives the job that was made then.

        Args:
            data: JSON-like.
            key: Of the request, if it has one.
            caller: Who asks; an evaluation of a student is that of the student's tenant, any other the caller's.

        Raises:
            InputError: It cannot be worked with.
            KeyReusedError: Its key was sent before, with another request.
            QuotaExceededError: The tenant may not have more.
        """
        # Looked for before the request is checked: what it points to may have gone since it was accepted.
        if key is not None and (known := self._jobs.find_keyed(key)) is not None:
            return known
        asked = with_absolute_paths(parse_evaluation(data))
        findings: list[FieldError] = []
        compression, student = None, None
        try:
            if asked.model.teacher is not None:
                check_teacher(asked.model.teacher, self._places)
            else:
                compression, student = self._student(asked, caller)
        except InputError as error:
            findings.extend(renamed(error, "teacher", "model.teacher").errors)
        findings.extend(task_findings(asked.task, self._places))
        if findings:
            raise InputError(findings)
        tenant = caller.tenant if compression is None else compression.tenant
        tokens = self._tokens(asked, tenant)
        kept = AcceptedEvaluation(**dict(asked), files=None if student is None else student.files)
        job = self._jobs.create(
            kept.model_dump(mode="json"),
            "evaluation",
            tenant=tenant,
            parent=None if compression is None else compression.id,
            tokens=tokens,
            key=key,
        )
        log.info("job_queued", job=job.id)
        self._wake()
        return job

    def page(
        self,
        *,
        tenant: str | None,
        compression: str | None = None,
        student: str | None = None,
        limit: int = MAX_PAGE,
        before: int | None = None,
    ) -> list[Job]:
        """Read up to ``limit`` evaluations, newest first; for the arguments see :meth:`JobStore.page`.

        Args:
            tenant: Those of this tenant; None is everyone's.
            compression: Those of its students.
            student: Those of this student.
            limit: At most so many.
            before: Those with a lower number, hence older.
        """
        found: list[Job] = []
        while len(found) < limit:
            jobs = self._jobs.page(kind="evaluation", tenant=tenant, parent=compression, limit=MAX_PAGE, before=before)
            found.extend(job for job in jobs if student in {None, job.request["model"]["student"]})
            if len(jobs) < MAX_PAGE:
                break
            before = jobs[-1].number
        return found[:limit]

    def _tokens(self, asked: EvaluationRequest, tenant: str) -> int:
        """Tokens that it trains on at most."""
        task = asked.task
        known = [path for path in task.train if "://" not in path]
        rows = sum(_most_rows(Path(path)) for path in known)
        if task.max_train_rows is not None and (rows > task.max_train_rows or len(known) < len(task.train)):
            rows = task.max_train_rows
        elif len(known) < len(task.train) and self._jobs.limits_tokens(tenant):
            raise InputError.of(
                f"{TASK}.max_train_rows",
                "How many rows the files in buckets have is not known here, and tokens to train on are limited.",
                "Set it.",
            )
        return asked.training_tokens(rows)

    def _student(self, asked: EvaluationRequest, caller: Caller) -> tuple[Job, StudentDocument]:
        assert asked.model.compression is not None
        assert asked.model.student is not None
        try:
            compression = self._jobs.get(asked.model.compression, "compression", tenant=caller.sees)
        except UnknownJobError as error:
            raise InputError.of(
                "model.compression", f"There is no compression {error}.", "Give the id of one that has succeeded."
            ) from error
        student = find_student(self._jobs, compression, asked.model.student)
        if student is None:
            raise InputError.of(
                "model.student",
                f"{compression.id} is {compression.status} and has no student {asked.model.student}.",
                "Give the id of a student whose files are ready, of the compression or of a selection from it.",
            )
        return compression, student


def with_absolute_paths(asked: EvaluationRequest) -> EvaluationRequest:
    """The request with local paths as a run finds them, which has another working folder."""
    task, teacher = asked.task, asked.model.teacher
    sides = {side: [absolute(path) for path in getattr(task, side)] for side in ("train", task.scored_on)}
    model = asked.model
    if teacher is not None and is_path(teacher.model):
        model = model.model_copy(update={"teacher": teacher.model_copy(update={"model": absolute(teacher.model)})})
    return asked.model_copy(update={"task": task.model_copy(update=sides), "model": model})


def task_findings(task: EvaluationTask, places: Places) -> list[FieldError]:
    """What is wrong with the task's files on this machine; those in buckets are looked into by the run."""
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
            if "://" in path or not Path(path).exists():
                continue
            try:
                columns = _columns(Path(path))
            except (OSError, ValueError, csv.Error, pa.ArrowException) as error:
                field = f"{TASK}.{side}.{index}"
                findings.append(FieldError(field, f"{path} cannot be read: {error}.", "Mend or replace the file."))
                continue
            for field, name in wanted:
                if name not in columns and field not in told:
                    told.add(field)
                    findings.append(_no_column(field, name, path, columns))
    return findings


def _no_column(field: str, name: str, path: str, columns: Sequence[str]) -> FieldError:
    return FieldError(f"{TASK}.{field}", f"{path} has no {name!r}.", f"Use one of: {', '.join(columns) or 'none'}.")


def _most_rows(path: Path) -> int:
    """At least as many rows as a file has; a text's line breaks may be inside of a row."""
    if path.suffix.lower() == ".parquet":
        return int(pq.read_metadata(path).num_rows)
    breaks, last = 0, b"\n"
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            breaks += piece.count(b"\n") + piece.count(b"\r") - piece.count(b"\r\n")
            last = piece[-1:]
    rows = breaks + (last not in b"\r\n")
    return rows - 1 if rows and path.suffix.lower() == ".csv" else rows


def _columns(path: Path) -> list[str]:
    """The names of a file's columns, from its beginning alone."""
    ending = path.suffix.lower()
    if ending == ".parquet":
        return list(pq.read_schema(path).names)
    if ending == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as rows:
            return next(csv.reader(rows), [])
    with path.open(encoding="utf-8-sig") as file:
        first = next((line for line in file if line.strip()), "{}")
    row = json.loads(first)
    return list(row) if isinstance(row, dict) else []
