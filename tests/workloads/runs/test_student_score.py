"""A student's held-out loss, measured again from its files, is the one that its search or polish measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.teachers import SENTENCES
from tests.workloads.runs.scenes import Heard
from workloads.answers.choosing import Scored
from workloads.answers.heldout_record import FILE, HeldoutRecord
from workloads.answers.scores_table import ScoredRow
from workloads.answers.student_key import student_key
from workloads.craft.blocks import Blocks
from workloads.craft.importance import importance_order
from workloads.craft.objectives.objective import objective_for
from workloads.craft.scoring import Heldout, heldout_batches, score_rows
from workloads.craft.superlm_files import build_superlm
from workloads.craft.teacher import Teacher, open_teacher
from workloads.craft.text.tokenizer import Tokenizer
from workloads.runs.attempt.run import News, Run
from workloads.runs.corpus import plan_corpus, prepare_corpus
from workloads.runs.student_score import ScoreOptions, main, score_student
from workloads.runs.students import Origin, build_student
from workloads.shapes.architecture import Architecture
from workloads.shapes.search_space import ProductSpace
from workloads.spec.errors import InputError
from workloads.spec.request import CompressionRequest, parse_request
from workloads.storage import artifacts
from workloads.storage.artifacts import Key
from workloads.storage.storage import Storage

Make = Callable[..., Path]
LENGTH, ROWS = 16, 12
SPACE = ProductSpace("tiny", (1, 2), (32, 48), (2.0, 3.0), None, 16, 4)
PAPER = ProductSpace("paper", (2,), (40, 48), (2.0,), (2, 3), 16, 4)
FULL = ProductSpace("full", (4,), (64,), (4.0,), None, 16, 4)
POOLED: dict[str, Any] = {"relation": "kl", "output": {"kind": "pooled", "weight": 2.0}}


@dataclass(frozen=True)
class Delivered:
    """A student in a storage, and what its search knew.

    Attributes:
        loss: The loss in its SuperLM, with the SuperLM's head order, on the rows that the search scored it on.
    """

    storage: Storage
    teacher: Teacher
    folder: Path
    architecture: Architecture
    loss: float

    def score(self, tmp_path: Path, **options: Any) -> float:
        given = ScoreOptions(**{"storage": self.storage, **options})
        return score_student(self.folder, given, tmp_path).heldout_loss

    def errors(self, tmp_path: Path, **options: Any) -> str:
        with pytest.raises(InputError) as error:
            self.score(tmp_path, **options)
        return str(error.value)

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        file = self.folder / FILE
        record = json.loads(file.read_text())
        change(record)
        file.write_text(json.dumps(record))


def _request(folder: Path, objective: dict[str, Any]) -> CompressionRequest:
    (folder / "text.txt").write_text("\n".join(f"{one} {number}" for number in range(20) for one in SENTENCES))
    corpus = {"paths": [str(folder / "text.txt")], "documents": "line", "heldout_fraction": 0.3}
    return parse_request(
        {
            "teacher": {"model": str(folder / "teacher")},
            "corpus": corpus,
            "objective": objective,
            "training": {"sequence_length": LENGTH, "batch_size": 8},
            "search": {"heldout_blocks": ROWS},
            "budgets": [{"name": "b", "max_params": 10**9}],
        }
    )


def deliver(
    folder: Path,
    make_teacher: Make,
    family: str = "bert",
    *,
    objective: dict[str, Any] | None = None,
    space: ProductSpace = SPACE,
    rows: int = ROWS,
    stage: str = "superlm",
    noise: float = 0.05,
) -> Delivered:
    """Build a SuperLM, score its smallest member as the search or the polish does, and deliver that as a student."""
    teacher = open_teacher(make_teacher(folder / "teacher", family))
    request = _request(folder, objective or {})
    storage = Storage.open(str(folder / "storage"))
    target = objective_for(request.objective, teacher.shape)
    plan = plan_corpus(request.corpus, Tokenizer.load(teacher.folder), LENGTH, target.layout)
    corpus = prepare_corpus(storage, plan, 8, "cmp_a-1", News.unheard())
    batches = heldout_batches(Blocks.open(storage, corpus, "heldout").read(range(ROWS)), 5, [rows])
    built = build_superlm(teacher, space, order=importance_order(teacher, batches), maps=target.maps)
    assert built.head_order is not None and built.head_order.tolist() != sorted(built.head_order.tolist())
    with torch.no_grad():  # as training would, so that no weight is the teacher's
        for tensor in built.superlm.parameters():
            tensor.add_(noise * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1)))
    heldout = Heldout.read(teacher, target, batches).ordered(built.head_order.tolist())
    (losses,) = score_rows(built.superlm, [space.smallest], target, heldout, range(rows))
    scored = Scored(space.name, space.smallest, float(losses.mean()), spread=0.01)

    summary = {"tokens": 100, "head_order": built.head_order.tolist()}
    superlm = artifacts.commit(storage, Key(stage, {}), "cmp_a-1", summary)
    table = [ScoredRow(scored, rows, 0, None), ScoredRow(Scored(space.name, space.largest, 0.9), ROWS, 1, None)]
    origin = Origin(request, teacher, built.superlm, {"corpus": corpus, "superlm": superlm}, table)
    key = student_key(
        artifacts.commit(storage, Key("scores", {}), "cmp_a-1", {}), superlm, space.smallest, request.export
    )
    run = Run(storage, "cmp_a-1", Heard(storage, []))
    student = build_student(run, origin, scored, key, folder / "work")
    return Delivered(storage, teacher, Path(storage.path(student.files)), space.smallest, scored.heldout_loss)


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("bert", {}),
        ("mpnet", {}),  # its relative bias moves with the heads
        ("roberta", {"objective": {"relation": "softmax-mse", "relation_heads": 5}}),
        ("bert", {"objective": POOLED}),
        ("xlm-roberta", {"objective": {"relation": None, "output": {"kind": "token"}}}),
        ("mpnet", {"space": PAPER, "objective": POOLED}),  # of our own class
        ("bert", {"stage": "polished"}),
        ("bert", {"objective": POOLED, "rows": 5}),  # dropped before the last rung
    ],
    ids=["bert", "mpnet", "spread", "pooled", "token", "own", "polished", "dropped"],
)
def test_the_loss_of_the_files_is_the_recorded_one(
    family: str, more: dict[str, Any], make_teacher: Make, tmp_path: Path
) -> None:
    student = deliver(tmp_path, make_teacher, family, **more)
    found = score_student(student.folder, ScoreOptions(storage=student.storage), tmp_path / "score")
    assert found.heldout_loss == pytest.approx(student.loss, rel=1e-4)
    assert (found.recorded.heldout_loss, found.rows, found.text) == (student.loss, more.get("rows", ROWS), "heldout")
    assert found.ratio == pytest.approx(1, rel=1e-4)
    polished = more.get("stage") == "polished"
    assert (found.polished, found.recorded.spread) == (polished, None if polished else 0.01)


def test_without_the_head_order_the_loss_is_another_one(make_teacher: Make, tmp_path: Path) -> None:
    # A student of full size, without any change by training, is the teacher with its heads in another order.
    student = deliver(tmp_path, make_teacher, space=FULL, noise=0.0)
    assert student.score(tmp_path) == pytest.approx(0, abs=1e-6)
    student.edit(lambda record: record.update(head_order=None))
    assert student.score(tmp_path) > 0.01


def test_the_text_may_be_given_and_the_teacher_named(make_teacher: Make, tmp_path: Path) -> None:
    student = deliver(tmp_path, make_teacher)
    given = {"storage": None, "text": (str(tmp_path / "text.txt"),)}  # the teacher is where the request had it
    found = student.score(tmp_path / "a", **given)
    assert found == student.score(tmp_path / "b", **given, teacher=str(student.teacher.folder))
    assert found != student.loss and found == pytest.approx(student.loss, rel=0.3)
    assert student.score(tmp_path / "c", **given, rows=40) != found


def test_a_storage_with_the_teacher_needs_no_other_copy(make_teacher: Make, tmp_path: Path) -> None:
    student = deliver(tmp_path, make_teacher)
    key = Key("teacher", {"files": student.teacher.fingerprint})
    student.storage.upload(student.teacher.folder, artifacts.build_folder(key, "cmp_a-1"))
    artifacts.commit(student.storage, key, "cmp_a-1", {})
    shutil.rmtree(student.teacher.folder)
    assert student.score(tmp_path) == pytest.approx(student.loss, rel=1e-4)


def test_what_is_missing_is_named_with_a_remedy(make_teacher: Make, tmp_path: Path) -> None:
    student = deliver(tmp_path, make_teacher, objective=POOLED)
    text = (str(tmp_path / "text.txt"),)
    assert student.errors(tmp_path, storage=Storage.open(str(tmp_path / "no"))).startswith("--storage: ")
    assert "--text" in student.errors(tmp_path, storage=None)
    assert student.errors(tmp_path, rows=10_000).startswith("--rows: The held-out text has")
    assert "not 10000" in student.errors(tmp_path, text=text, rows=10_000)
    assert student.errors(tmp_path, text=(str(tmp_path / "none.txt"),)).startswith("--text: ")
    (tmp_path / "blank.txt").write_text("\n \n")
    assert "gives 0 rows" in student.errors(tmp_path, text=(str(tmp_path / "blank.txt"),))
    other = make_teacher(tmp_path / "other", seed=1)
    assert "not the teacher of this student" in student.errors(tmp_path, teacher=str(other))
    shutil.rmtree(tmp_path / "teacher")
    assert "Or name the teacher with --teacher" in student.errors(tmp_path)


def test_a_learned_map_that_is_missing_or_of_another_student_is_named(make_teacher: Make, tmp_path: Path) -> None:
    student = deliver(tmp_path, make_teacher, objective=POOLED)
    other = deliver(tmp_path / "other", make_teacher, space=PAPER, objective=POOLED)
    file = student.folder / "projection.safetensors"
    shutil.copy(other.folder / file.name, file)
    assert f"{file} is not a map of 32 dimensions to 64" in student.errors(tmp_path)
    file.write_bytes(b"no")
    assert "cannot be read" in student.errors(tmp_path)
    file.unlink()
    assert f"FOLDER: {file} is missing." in student.errors(tmp_path)


def test_a_folder_without_a_sound_record_is_refused(make_teacher: Make, tmp_path: Path) -> None:
    student = deliver(tmp_path, make_teacher)
    assert "There is no folder" in replace(student, folder=tmp_path / "nowhere").errors(tmp_path)
    assert "not a student of stillroom" in replace(student, folder=student.teacher.folder).errors(tmp_path)
    whole = (student.folder / FILE).read_text()
    for change, problem in (
        ({"schema_version": 2}, "schema version 2"),
        ({"heldout_loss": "low"}, "damaged: heldout_loss"),
        ({"head_order": [0, 0, 1]}, "does not fit the teacher"),
        ({"relation_layers": {"teacher": 3, "student": 1}}, "those of the layers 3 (teacher)"),
    ):
        student.edit(lambda record, change=change: record.update(change))  # type: ignore[misc]
        assert problem in student.errors(tmp_path)
        (student.folder / FILE).write_text(whole)
    (student.folder / FILE).write_text(whole[:-20])
    assert "cannot be read" in student.errors(tmp_path)
    (student.folder / FILE).unlink()
    assert "an older version of stillroom made this student" in student.errors(tmp_path)


def test_the_record_says_what_the_request_left_open(make_teacher: Make, tmp_path: Path) -> None:
    student = deliver(tmp_path, make_teacher)
    record = HeldoutRecord.read(student.folder)
    assert record is not None and record.relation_layers is not None
    assert record.objective.relation_heads == 4
    assert (record.relation_layers.teacher, record.relation_layers.student) == (4, 1)
    assert record.teacher.fingerprint == student.teacher.fingerprint
    assert (record.text.documents, record.text.layout, record.text.sequence_length) == ("line", "packed", LENGTH)


def test_the_program_writes_its_answer_or_the_findings(make_teacher: Make, tmp_path: Path) -> None:
    student = deliver(tmp_path, make_teacher)
    answer = tmp_path / "answer.json"
    common = ["--work", str(tmp_path), "--storage", student.storage.url]
    assert main([*common, str(student.folder)]) == 0
    assert json.loads(answer.read_text())["score"]["heldout_loss"] == pytest.approx(student.loss, rel=1e-4)
    assert main([*common, "--teacher", "", str(student.folder)]) == 0
    assert json.loads(answer.read_text())["findings"][0]["field"] == "--teacher"
