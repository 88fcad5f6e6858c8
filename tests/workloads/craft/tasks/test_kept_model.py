"""Kept models: plain transformers loads each with its head, and it can be a teacher."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from tests.workloads.task_files import write_rows, write_similarities
from workloads.craft.export import stillroom_student
from workloads.craft.families import STILLROOM
from workloads.craft.tasks.evaluating import FineTuned, TaskModel, fine_tune, prepare
from workloads.craft.tasks.finetuning import head_config
from workloads.craft.tasks.kept_model import ModelKeeper
from workloads.craft.teacher import open_teacher
from workloads.shapes.teacher_files import check_teacher
from workloads.spec.evaluation import EvaluationRequest, parse_evaluation
from workloads.spec.request import TeacherSpec

CPU = torch.device("cpu")
TEXTS = ["the fox runs", "a dog sleeps in the sun"]


def words(folder: Path, **task: object) -> EvaluationRequest:
    rows: list[list[object]] = [
        [f"{name} number {n}", label] for n in range(30) for name, label in (("fox", 7), ("dog", 2))
    ]
    file = write_rows(folder / "rows.csv", ["sentence", "label"], rows)
    given = {"kind": "single", "train": [file], "test": [file], "text_columns": ["sentence"]} | task
    return parse_evaluation(
        {"model": {"teacher": {"model": "made/up"}}, "task": given, "seeds": [1], "epochs": 1, "sequence_length": 16,
         "learning_rates": [1e-3], "keep_model": True}
    )  # fmt: skip


def keep(source: Path, model: TaskModel, asked: EvaluationRequest, folder: Path) -> FineTuned:
    data = prepare(asked, model)
    found = fine_tune(model.model, data, asked, 1, CPU)
    keeper = ModelKeeper(source, head_config(model.model.config, data.task), data.classes, asked)
    keeper.save(folder, found.model.state_dict(), found.score)
    return found


def logits_of(model: torch.nn.Module, folder: Path) -> torch.Tensor:
    inputs = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(**inputs).logits
    return logits


@pytest.mark.parametrize("family", ["bert", "roberta", "mpnet"])
def test_a_kept_model_answers_as_the_scored_one_and_names_the_files_labels(
    make_teacher: Callable[..., Path], family: str, tmp_path: Path
) -> None:
    source = make_teacher(tmp_path / "teacher", family=family)
    found = keep(source, TaskModel.teacher(source), words(tmp_path), tmp_path / "kept")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "kept")
    assert type(loaded) is type(found.model)
    torch.testing.assert_close(logits_of(loaded, tmp_path / "kept"), logits_of(found.model, tmp_path / "kept"))
    assert (loaded.config.id2label, loaded.config.problem_type) == ({0: "2", 1: "7"}, "single_label_classification")
    answers = pipeline("text-classification", str(tmp_path / "kept"))(TEXTS)
    wanted = [loaded.config.id2label[one] for one in logits_of(loaded, tmp_path / "kept").argmax(-1).tolist()]
    assert [one["label"] for one in answers] == wanted
    assert f"{found.score.score:.4f}" in (tmp_path / "kept" / "README.md").read_text()


def test_a_kept_model_can_be_a_teacher_and_be_evaluated(make_teacher: Callable[..., Path], tmp_path: Path) -> None:
    source = make_teacher(tmp_path / "teacher")
    keep(source, TaskModel.teacher(source), words(tmp_path), tmp_path / "kept")
    shape = check_teacher(TeacherSpec(model=str(tmp_path / "kept")))
    assert shape is not None
    assert shape.architecture == open_teacher(source).shape.architecture
    again = keep(tmp_path / "kept", TaskModel.teacher(tmp_path / "kept"), words(tmp_path), tmp_path / "again")
    assert again.score.epoch == 1


def test_the_kept_model_of_a_similarity_gives_numbers(make_teacher: Callable[..., Path], tmp_path: Path) -> None:
    source = make_teacher(tmp_path / "teacher")
    file = write_similarities(tmp_path / "pairs.csv", 60, 0)
    task = {"kind": "similarity", "text_columns": ["first", "second"], "metric": "spearman", "train": [file]}
    keep(source, TaskModel.teacher(source), words(tmp_path, **task, test=[file]), tmp_path / "kept")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "kept")
    assert (loaded.config.num_labels, loaded.config.problem_type) == (1, "regression")


def test_a_kept_model_of_our_own_class_brings_its_code(make_teacher: Callable[..., Path], tmp_path: Path) -> None:
    teacher = open_teacher(make_teacher(tmp_path / "teacher"))
    own = stillroom_student(teacher, teacher.shape.architecture, dict(teacher.weights))
    source = tmp_path / "source"
    own.save_pretrained(source)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        if (teacher.folder / name).is_file():
            (source / name).write_bytes((teacher.folder / name).read_bytes())
    found = keep(source, TaskModel.student(source), words(tmp_path), tmp_path / "kept")
    assert found.model.config.model_type == STILLROOM.name
    # In a process of its own, which has none of our modules to fall back to.
    program = (
        "from transformers import AutoModelForSequenceClassification as A; import sys;"
        "m, i = A.from_pretrained(sys.argv[1], trust_remote_code=True, output_loading_info=True);"
        "print(type(m).__name__, sum(map(len, (i['missing_keys'], i['unexpected_keys']))))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(tmp_path / "kept")], capture_output=True, text=True, check=True,
        cwd=tmp_path, env={"HF_HOME": str(tmp_path / "hf"), "PATH": ""},
    )  # fmt: skip
    assert done.stdout.split()[-2:] == ["StillroomForSequenceClassification", "0"]
