"""Evaluation: the epoch is chosen on training rows set aside, and scored once on the rows to score on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.workloads.task_files import WORDS, write_rows, write_similarities, write_words
from workloads.craft.export import build_student
from workloads.craft.superlm import SuperLM
from workloads.craft.superlm_files import wiring_of
from workloads.craft.tasks.data import LabelledRows
from workloads.craft.tasks.encoding import EncodedRows
from workloads.craft.tasks.evaluating import (
    EvaluationData,
    Reports,
    TaskModel,
    constant_baseline,
    evaluate_seed,
    main_score,
    prepare,
    set_aside,
)
from workloads.craft.tasks.finetuning import FineTuning
from workloads.craft.teacher import open_teacher
from workloads.shapes.architecture import Architecture
from workloads.shapes.search_space import ProductSpace
from workloads.spec.errors import InputError
from workloads.spec.evaluation import EvaluationRequest, SeedScore, parse_evaluation

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def teacher(make_teacher: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def model(teacher: Path) -> TaskModel:
    return TaskModel.teacher(teacher)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> EvaluationRequest:
    folder = tmp_path_factory.mktemp("words")
    return request(write_words(folder / "train.csv", 400, 0), write_words(folder / "test.csv", 100, 1, length=5))


def request(train: str, test: str, task: dict[str, Any] | None = None, **changes: Any) -> EvaluationRequest:
    given = {"kind": "single", "train": [train], "test": [test], "text_columns": ["sentence"]}
    settings = {"epochs": 3, "learning_rates": [2e-3], "batch_size": 16, "sequence_length": 16, "seeds": [0, 1]}
    return parse_evaluation(
        {"model": {"teacher": {"model": "x"}}, "task": given | (task or {})} | settings | changes
    )  # fmt: skip


def run(model: TaskModel, asked: EvaluationRequest, seed: int = 0, data: EvaluationData | None = None) -> SeedScore:
    return evaluate_seed(model.model, data or prepare(asked, model), asked, seed, CPU)


def texts_of(rows: EncodedRows, model: TaskModel) -> set[str]:
    spans = zip(rows.starts_N1[:-1], rows.starts_N1[1:], strict=True)
    return {str(model.tokenizer.decode(rows.ids_T[start:end])) for start, end in spans}


def test_a_planted_rule_is_learned_far_beyond_the_baseline(model: TaskModel, words: EvaluationRequest) -> None:
    data = prepare(words, model)
    found = run(model, words, data=data)
    assert 0.4 < data.baseline.score < 0.65
    assert found.score > 0.9
    assert set(found.scores) == {"accuracy", "f1_binary", "f1_macro", "matthews"}
    assert found.score == found.scores["accuracy"]
    assert not any(parameter.requires_grad for parameter in model.model.parameters()), "the model itself was trained"


def test_a_similarity_is_scored_by_rank(model: TaskModel, tmp_path: Path) -> None:
    files = write_similarities(tmp_path / "train.csv", 300, 0), write_similarities(tmp_path / "test.csv", 100, 1)
    task = {"kind": "similarity", "text_columns": ["first", "second"], "metric": "spearman"}
    asked = request(*files, task, epochs=4, learning_rates=[2e-3])
    data = prepare(asked, model)
    assert (data.classes, data.baseline.scores) == ((), {"spearman": 0.0})
    assert run(model, asked, data=data).score > 0.8


def test_the_rows_scored_on_reach_neither_training_nor_the_choice(model: TaskModel, words: EvaluationRequest) -> None:
    data = prepare(words, model)
    assert (len(data.task.train), len(data.task.validation), len(data.scored)) == (360, 40, 100)
    sides = [texts_of(rows, model) for rows in (data.task.train, data.task.validation, data.scored)]
    assert not sides[0] & sides[1]
    assert not sides[2] & (sides[0] | sides[1])
    # If all labels of the scored rows are inverted, only the scores change.
    labels = 1 - data.scored.labels_N
    other = EvaluationData(
        data.task,
        EncodedRows(data.scored.ids_T, data.scored.types_T, data.scored.starts_N1, labels),
        data.classes, data.rows_in_training, data.baseline,
    )  # fmt: skip
    plain, turned = run(model, words, data=data), run(model, words, data=other)
    assert (turned.epoch, turned.validation_score) == (plain.epoch, plain.validation_score)
    assert turned.score == pytest.approx(1 - plain.score)


def test_the_rows_scored_on_are_read_once_by_the_epoch_that_did_best_on_those_set_aside(
    model: TaskModel, words: EvaluationRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = prepare(words, model)
    read: list[tuple[str, dict[str, torch.Tensor]]] = []
    plain = FineTuning.predict

    def watched(self: FineTuning, rows: EncodedRows) -> Any:
        weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        read.append(("scored" if rows is data.scored else "set aside", weights))
        assert rows is data.scored or rows is data.task.validation
        return plain(self, rows)

    monkeypatch.setattr(FineTuning, "predict", watched)
    told: list[float] = []
    asked = words.model_copy(update={"learning_rates": [2e-3, 1e-5]})

    def keep(done: int, total: int, metrics: dict[str, float]) -> None:
        told.append(metrics["set_aside_score"])

    found = evaluate_seed(model.model, data, asked, 0, CPU, Reports(epoch=keep))
    assert [name for name, _ in read] == ["set aside"] * 6 + ["scored"]
    best = told.index(max(told))
    assert (found.epoch, found.learning_rate) == (best % 3 + 1, asked.learning_rates[best // 3])
    assert found.validation_score == max(told)
    assert all(tensor.equal(read[best][1][name]) for name, tensor in read[-1][1].items()), "scored with other weights"


def test_seeds_differ_and_each_repeats_exactly(model: TaskModel, words: EvaluationRequest) -> None:
    data = prepare(words, model)
    told: list[list[float]] = []

    def ended(seed: int) -> dict[str, Any]:
        losses: list[float] = []
        told.append(losses)

        def keep(done: int, total: int, metrics: dict[str, float]) -> None:
            losses.append(metrics["train_loss"])

        return evaluate_seed(model.model, data, words, seed, CPU, Reports(epoch=keep)).model_dump(exclude={"seconds"})

    one, again, other = ended(0), ended(0), ended(1)
    assert (one, told[0]) == (again, told[1])
    assert told[0] != told[2] and one["seed"] != other["seed"]


def test_every_step_is_told(model: TaskModel, words: EvaluationRequest) -> None:
    told: list[tuple[int, int]] = []
    short = words.model_copy(update={"epochs": 1, "learning_rates": [1e-3, 1e-4]})
    evaluate_seed(model.model, prepare(short, model), short, 0, CPU, Reports(lambda *now: told.append(now)))
    assert told == [(done, 2 * 23) for done in range(2 * 23 + 1)]


def test_fine_tuning_that_diverges_is_told_unless_another_learning_rate_does_not(
    model: TaskModel, words: EvaluationRequest
) -> None:
    data = prepare(words, model)
    broken = TaskModel(type(model.model)(model.model.config), model.tokenizer)
    for parameter in broken.model.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(InputError) as caught:
        run(broken, words, data=data)
    assert caught.value.errors[0].field == "learning_rates"


@pytest.mark.parametrize("heads", [2, 3], ids=["stock", "of a free shape"])
def test_a_student_is_evaluated_from_its_folder_as_it_was_saved(
    teacher: Path, words: EvaluationRequest, tmp_path: Path, heads: int
) -> None:
    opened = open_teacher(teacher)
    space = ProductSpace("one", (2,), (32,), (2.0,), (heads,), 16, 4)
    (shape,) = space
    assert isinstance(shape, Architecture)
    superlm = SuperLM.from_teacher(opened.weights, space, wiring_of(opened))
    student = build_student(opened, shape, superlm.extract(shape))
    student.save_pretrained(tmp_path)
    opened.tokenizer.save_pretrained(tmp_path)
    loaded = TaskModel.student(tmp_path)
    assert loaded.longest == 130
    assert type(loaded.model) is type(student)
    assert run(loaded, words).score > 0.8


def test_too_long_rows_are_refused_and_roberta_counts_positions_from_behind_its_padding(
    make_teacher: Callable[..., Path], words: EvaluationRequest, tmp_path: Path
) -> None:
    model = TaskModel.teacher(make_teacher(tmp_path, "roberta"))
    assert model.longest == 128
    with pytest.raises(InputError) as caught:
        prepare(words.model_copy(update={"sequence_length": 129}), model)
    assert caught.value.errors[0].field == "sequence_length"


def test_errors_of_the_files_name_the_field_that_the_user_wrote(model: TaskModel, tmp_path: Path) -> None:
    train = write_words(tmp_path / "train.csv", 40, 0)
    other = write_rows(tmp_path / "other.csv", ["sentence", "label"], [["a house", 7]])
    for test, field in ((str(tmp_path / "gone.csv"), "task.test.0"), (other, "task.test")):
        with pytest.raises(InputError) as caught:
            prepare(request(train, test), model)
        assert caught.value.errors[0].field == field
    with pytest.raises(InputError) as caught:
        prepare(request(train, train, {"label_column": "y"}), model)
    assert caught.value.errors[0].field == "task.label_column"


def test_rows_that_are_also_trained_on_are_counted(model: TaskModel, tmp_path: Path) -> None:
    train = [[" ".join([WORDS[n % 10], WORDS[n // 10]]), n % 2] for n in range(40)]
    test = [*train[:3], ["the quick fox", 0]]
    files = [write_rows(tmp_path / f"{name}.csv", ["sentence", "label"], rows) for name, rows in
             (("train", train), ("test", test))]  # fmt: skip
    assert prepare(request(*files), model).rows_in_training == 3


def rows_of(labels: list[int], texts: list[str] | None = None) -> LabelledRows:
    texts = texts or [f"text {number}" for number in range(len(labels))]
    return LabelledRows((tuple(texts),), np.array(labels, np.int64))


def test_of_each_class_the_same_share_is_set_aside_whatever_the_order() -> None:
    rows = rows_of([0] * 80 + [1] * 20)
    train, aside = set_aside(rows, 0.1, regression=False)
    assert np.bincount(aside.labels.astype(np.int64)).tolist() == [8, 2]
    assert len(train) == 90
    backwards = LabelledRows((rows.texts[0][::-1],), rows.labels[::-1])
    assert set(set_aside(backwards, 0.1, regression=False)[1].texts[0]) == set(aside.texts[0])


def test_rows_with_the_same_text_stay_on_one_side() -> None:
    rows = rows_of([0, 1] * 100, [f"text {number // 4}" for number in range(200)])
    train, aside = set_aside(rows, 0.2, regression=False)
    assert 20 <= len(aside) <= 40
    assert not set(train.texts[0]) & set(aside.texts[0])


def test_too_few_rows_to_choose_on_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        set_aside(rows_of([0, 1, 0, 1]), 0.1, regression=False)
    assert caught.value.errors[0].field == "task.train"


def test_the_baseline_is_the_best_answer_on_the_training_rows(words: EvaluationRequest) -> None:
    train, scored = np.array([0] * 6 + [1] * 4), np.array([0, 1, 1, 1])
    majority = constant_baseline(train, scored, "accuracy", (3, 7))
    assert (majority.answer, majority.score) == (3.0, 0.25)
    # Class 1: all rows are found; precision 3/4, recall 1.
    always = constant_baseline(train, scored, "f1_binary", (3, 7))
    assert (always.answer, always.score) == (7.0, pytest.approx(2 * 0.75 / 1.75))
    assert constant_baseline(train, scored, "matthews", (3, 7)).score == 0.0
    mean = constant_baseline(np.array([1.0, 2.0]), np.array([0.5, 1.0]), "spearman", ())
    assert (mean.answer, mean.score) == (1.5, 0.0)


def test_f1_means_the_second_of_two_classes_and_the_mean_over_more(words: EvaluationRequest) -> None:
    asked = words.model_copy(update={"task": words.task.model_copy(update={"metric": "f1"})})
    assert [main_score(asked, classes) for classes in ((0, 1), (0, 1, 2))] == ["f1_binary", "f1_macro"]
    assert main_score(words, (0, 1)) == "accuracy"
