"""A student's held-out loss, measured again from its files: ``python -m workloads.runs.student_score``.

The objective, the rows and the code are those of the search. What they need to know of the training stands in the
student's :mod:`~workloads.answers.heldout_record`. The command line starts this program, since it imports no torch
itself; the answer is a file, because libraries may write to standard output. It needs no Ray.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from workloads.answers.heldout_record import FIELD, FILE, HeldoutRecord
from workloads.craft.blocks import Blocks, TokenRows
from workloads.craft.card import is_ours
from workloads.craft.objectives.objective import Objective, objective_for
from workloads.craft.precision import set_up_torch
from workloads.craft.saved_student import SavedStudent, open_student
from workloads.craft.scoring import Heldout, Losses, heldout_batches, rows_at_once
from workloads.craft.teacher import Teacher, fetch_teacher, open_teacher
from workloads.craft.text.forms import form_of
from workloads.craft.text.shards import Shard
from workloads.craft.text.sources import list_sources
from workloads.craft.text.splits import plan_splits
from workloads.craft.text.tokenise import HASHES, Recipe, tokenise_split
from workloads.craft.text.tokenizer import Tokenizer
from workloads.documents.student_score import ANSWER, LossDocument, ScoreAnswer, StudentScore
from workloads.runs.search.rules import standard_error
from workloads.shapes import teacher_files
from workloads.spec.errors import InputError
from workloads.spec.parsing import parse_as
from workloads.spec.request import CorpusSpec, TeacherSpec
from workloads.storage import artifacts
from workloads.storage.artifacts import Key
from workloads.storage.storage import Storage

TEACHER, TEXT, STORAGE, ROWS = "--teacher", "--text", "--storage", "--rows"
_AT_ONCE = 32
"""Most rows of a batch."""


@dataclass(frozen=True)
class ScoreOptions:
    """What to score a student with.

    Attributes:
        teacher: Folder or hub id of the teacher; None: the storage's copy, else the recorded place.
        text: Files, folders or globs; empty: the compression's held-out text in the storage.
        storage: The storage of the compression, if there is one.
        rows: Number of rows; None: as many as the recorded loss has.
    """

    teacher: str | None = None
    text: tuple[str, ...] = ()
    storage: Storage | None = None
    rows: int | None = None


@dataclass(frozen=True)
class _Text:
    """Rows to score on.

    Attributes:
        rows: The rows whose tokens are counted.
        scored: The number of rows that the loss is the mean of.
    """

    rows: TokenRows
    scored: int


def score_student(folder: Path, options: ScoreOptions, work: Path) -> StudentScore:
    """Measure a student's held-out loss from its files.

    Args:
        folder: The student's folder.
        options: The teacher and the text.
        work: A local folder for temporary files.

    Raises:
        InputError: The folder is not a student's, or has no record; the teacher, the text or a learned map is missing
            or is not what the student was trained with.
    """
    record = _read_record(folder)
    teacher, place = _find_teacher(record, options, work)
    objective = _objective(folder, record, teacher)
    text = _given_text(record, options, teacher, work) if options.text else _heldout_text(record, options)
    with _named(FIELD):
        student = open_student(folder, teacher, objective, FIELD)
    _check_layers(folder, record, teacher, student)
    losses = _score(record, teacher, student, objective, text)
    loss, recorded = float(losses.mean()), record.heldout_loss
    spread = standard_error(losses)
    source = list(options.text) if options.text else [options.storage.url if options.storage else ""]
    return StudentScore(
        heldout_loss=loss,
        spread=spread if math.isfinite(spread) else None,
        rows=len(losses),
        sequence_length=record.text.sequence_length,
        text="given" if options.text else "heldout",
        source=source,
        teacher=place,
        polished=record.polished,
        recorded=LossDocument(heldout_loss=recorded, spread=record.spread, rows=record.text.rows),
        ratio=loss / recorded if recorded else None,
    )


def _read_record(folder: Path) -> HeldoutRecord:
    if not folder.is_dir():
        raise InputError.of(FIELD, f"There is no folder {folder}.", "Give the folder of a student.")
    record = HeldoutRecord.read(folder)
    if record is not None:
        return record
    if is_ours(folder):
        raise InputError.of(
            FIELD,
            f"{folder} has no {FILE}: an older version of stillroom made this student.",
            "Ask for it again with `stillroom select` and its budget; that saves it with the file, without training.",
        )
    problem = f"{folder} is not a student of stillroom: it has no {FILE}."
    raise InputError.of(FIELD, problem, "Give a folder that `stillroom download --extract` or a storage holds.")


def _find_teacher(record: HeldoutRecord, options: ScoreOptions, work: Path) -> tuple[Teacher, str]:
    """Open the teacher, and return it with the place that it was found in."""
    with _named(TEACHER):
        if options.teacher is not None:
            spec = parse_as(TeacherSpec, {"model": options.teacher}, "a folder or hub id")
            teacher, place = _open_teacher(spec, record, work), options.teacher
        elif (stored := _stored_teacher(record, options, work)) is not None:
            teacher, place = open_teacher(stored), str(stored)
        else:
            spec = TeacherSpec(model=record.teacher.model, revision=record.teacher.revision)
            try:
                teacher, place = _open_teacher(spec, record, work), record.teacher.model
            except InputError as error:
                found = [
                    replace(one, remedy=f"{one.remedy} Or name the teacher with {TEACHER}.") for one in error.errors
                ]
                raise InputError(found) from error
    if teacher.fingerprint != record.teacher.fingerprint:
        raise InputError.of(
            TEACHER,
            f"{place} is not the teacher of this student: its fingerprint is {teacher.fingerprint[:12]}…, and the "
            f"student was compared with {record.teacher.fingerprint[:12]}….",
            f"Give the same files as in the compression, of {record.teacher.model}; one changed byte of its "
            "configuration, weights or tokenizer counts.",
        )
    return teacher, place


def _stored_teacher(record: HeldoutRecord, options: ScoreOptions, work: Path) -> Path | None:
    if options.storage is None:
        return None
    stored = artifacts.find(options.storage, Key("teacher", {"files": record.teacher.fingerprint}))
    return None if stored is None else options.storage.fetch(stored.files, work)


def _open_teacher(spec: TeacherSpec, record: HeldoutRecord, work: Path) -> Teacher:
    kind, size = record.teacher.kind, record.teacher.embedding_size
    if teacher_files.is_path(spec.model) and "://" not in spec.model:
        return open_teacher(Path(spec.model).expanduser(), kind, size)
    return open_teacher(fetch_teacher(spec, work / "teacher", kind), kind, size)


def _objective(folder: Path, record: HeldoutRecord, teacher: Teacher) -> Objective:
    order, last = record.head_order, teacher.shape.architecture.layers[-1]
    if order is not None and sorted(order) != list(range(last.heads * last.head_width)):
        problem = f"The head order in {folder / FILE} does not fit the teacher."
        raise InputError.of(FIELD, problem, "Copy the file again from the student's archive.")
    with _named(FIELD):
        return objective_for(record.objective, teacher.shape)


def _check_layers(folder: Path, record: HeldoutRecord, teacher: Teacher, student: SavedStudent) -> None:
    """Refuse other layers than those that this version compares, the last ones."""
    layers = record.relation_layers
    last = teacher.shape.layers, student.opened.shape.layers
    if layers is not None and (layers.teacher, layers.student) != last:
        raise InputError.of(
            FIELD,
            f"The relations in {folder / FILE} are those of the layers {layers.teacher} (teacher) and "
            f"{layers.student} (student); the last layers of these models are {last[0]} and {last[1]}.",
            "Give the student's files as they were saved.",
        )


def _heldout_text(record: HeldoutRecord, options: ScoreOptions) -> _Text:
    """Read the held-out rows of the compression's corpus."""
    storage, text = options.storage, record.text
    other = f"Name the storage of the compression with {STORAGE}, or other text with {TEXT}."
    if storage is None:
        raise InputError.of(STORAGE, "There is no storage to read the held-out text from.", other)
    try:
        blocks = Blocks.open(storage, artifacts.load(storage, "corpus", text.corpus), "heldout")
    except FileNotFoundError as error:
        problem = f"The student's held-out text is not in {storage.url} (corpus {text.corpus})."
        raise InputError.of(STORAGE, problem, other) from error
    scored = options.rows or text.rows
    if scored > blocks.rows:
        raise InputError.of(ROWS, f"The held-out text has {blocks.rows} rows, not {scored}.", "Use fewer rows.")
    counted = min(max(scored, text.counted_rows), blocks.rows)
    return _Text(blocks.read(range(counted)), scored)


def _given_text(record: HeldoutRecord, options: ScoreOptions, teacher: Teacher, work: Path) -> _Text:
    """Tokenise the given files, all of them as held-out text."""
    text = record.text
    with _named(TEXT):
        paths = {"paths": list(options.text), "documents": text.documents, "text_column": text.text_column}
        if text.text_columns is not None:
            paths["text_columns"] = list(text.text_columns)
        spec = parse_as(CorpusSpec, paths, "paths")
        recipe = Recipe(spec, text.sequence_length, text.layout, HASHES, form_of(teacher.shape.head))
        tokenizer = Tokenizer.load(teacher.folder)
        storage = Storage.open(str(work))
        shards: list[Shard] = []
        for split in plan_splits(list_sources(spec), spec):
            shards += tokenise_split(storage, "text", split, recipe, tokenizer).sides["heldout"].shards
    blocks = Blocks(storage, "text", tuple(shards), text.sequence_length)
    wanted = options.rows or min(text.rows, blocks.rows)
    if not 0 < wanted <= blocks.rows:
        raise InputError.of(
            TEXT,
            f"The text gives {blocks.rows} rows of {text.sequence_length} tokens"
            + (f", not {options.rows}." if options.rows else "."),
            f"Give more text{', or fewer ' + ROWS if options.rows else ''}.",
        )
    return _Text(blocks.read(range(wanted)), wanted)


def _score(record: HeldoutRecord, teacher: Teacher, student: SavedStudent, objective: Objective, text: _Text) -> Losses:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    teacher.model.to(device)
    at_once = rows_at_once(objective, record.text.sequence_length, _AT_ONCE)
    first = TokenRows(*(None if part is None else part[: text.scored] for part in text.rows))  # type: ignore[arg-type]
    batches = [batch.to(device) for batch in heldout_batches(first, at_once)]
    counts = Heldout.count(objective, heldout_batches(text.rows, at_once))
    heldout = replace(Heldout.read(teacher, objective, batches), counts=counts).ordered(record.head_order)
    return student.score(objective, heldout, range(text.scored), device)


@contextlib.contextmanager
def _named(field: str) -> Iterator[None]:
    """Name an option in place of the fields of a request, which the shared code names."""
    try:
        yield
    except InputError as error:
        raise InputError([replace(one, field=field, path=None) for one in error.errors]) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Score a student and write the answer; the exit code is 0 where there is one."""
    parser = argparse.ArgumentParser(prog="python -m workloads.runs.student_score")
    parser.add_argument("folder", type=Path)
    parser.add_argument(TEACHER)
    parser.add_argument(TEXT, action="append", default=[])
    parser.add_argument(STORAGE)
    parser.add_argument(ROWS, type=int)
    parser.add_argument("--work", type=Path, required=True, help=f"local folder for temporary files and {ANSWER}")
    given = parser.parse_args(arguments)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    set_up_torch(torch.get_num_threads())  # as the search did, so that its number can come out again
    try:
        storage = None if given.storage is None else Storage.open(given.storage)
        options = ScoreOptions(given.teacher, tuple(given.text), storage, given.rows)
        answer = ScoreAnswer(score=score_student(given.folder, options, given.work))
    except InputError as error:
        answer = ScoreAnswer.of_errors(error)
    except OSError as error:
        answer = ScoreAnswer(failure=f"{type(error).__name__}: {error}")
    (given.work / ANSWER).write_text(answer.model_dump_json(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
