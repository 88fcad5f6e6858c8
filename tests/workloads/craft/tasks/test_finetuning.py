"""Fine-tuning on tasks that can be learned: a word that occurs, a pair that starts alike, a share of words."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.teachers import FAMILIES
from workloads.craft.cutting import cut_student
from workloads.craft.export import build_student
from workloads.craft.tasks.data import LabelledRows, TaskData
from workloads.craft.tasks.encoding import EncodedRows, EncodedTask, encode_task
from workloads.craft.tasks.finetuning import FineTuning, classifier
from workloads.craft.teacher import Teacher, open_teacher
from workloads.shapes.architecture import Architecture
from workloads.spec.errors import InputError
from workloads.spec.search import TaskSpec

WORDS = ["house", "teacher", "student", "text", "senate", "run", "budget", "lazy", "silence", "geese"]
CPU = torch.device("cpu")


def make_spec(**changes: Any) -> TaskSpec:
    given = {"train": ["x.csv"], "validation": ["x.csv"], "text_columns": ["a"], "sequence_length": 32}
    return TaskSpec(**{**given, "epochs": 4, "learning_rate": 2e-3, "batch_size": 16, **changes})


def word_task(rows: int = 400) -> TaskData:
    """Task: whether ``fox`` occurs."""
    draw = random.Random(0)
    texts, labels = [], []
    for _ in range(rows):
        words, label = draw.choices(WORDS, k=draw.randint(3, 8)), draw.random() < 0.5
        if label:
            words[draw.randrange(len(words))] = "fox"
        texts.append(" ".join(words))
        labels.append(int(label))
    return split((texts,), np.array(labels, np.int64), (0, 1))


def similarity_task(rows: int = 400) -> TaskData:
    """Task: how many of the second text's words are ``fox``."""
    draw = random.Random(1)
    counts = [draw.randint(0, 5) for _ in range(rows)]
    first = [" ".join(draw.choices(WORDS, k=3)) for _ in counts]
    second = [" ".join(["fox"] * count + ["dog"] * (5 - count)) for count in counts]
    return split((first, second), np.array(counts, np.float32), ())


def split(texts: tuple[list[str], ...], labels: Any, classes: tuple[int, ...]) -> TaskData:
    at = len(labels) * 3 // 4
    return TaskData(
        LabelledRows(tuple(tuple(column[:at]) for column in texts), labels[:at]),
        LabelledRows(tuple(tuple(column[at:]) for column in texts), labels[at:]),
        classes,
    )


def encode(teacher: Teacher, data: TaskData, spec: TaskSpec) -> EncodedTask:
    return encode_task(data, spec, teacher.tokenizer, teacher.shape)


def student_of(teacher: Teacher, *, heads: int = 2) -> Any:
    one = Architecture.alike(
        layers=2, hidden_size=32, heads=heads, head_width=16, intermediate_size=64, teacher_layers=4
    )
    return build_student(teacher, one, cut_student(teacher.weights, one))


@pytest.fixture(scope="module")
def open_one(make_teacher: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Teacher]:
    return lambda family="bert", **given: open_teacher(make_teacher(tmp_path_factory.mktemp(family), family, **given))


@pytest.mark.parametrize("heads", [2, 3], ids=["stock", "of a free shape"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_of_every_family_learns_a_word_and_keeps_its_encoder(
    open_one: Callable[..., Teacher], family: str, heads: int
) -> None:
    teacher, spec = open_one(family), make_spec()
    task = encode(teacher, word_task(), spec)
    student = student_of(teacher, heads=heads)
    model = classifier(student, task, seed=0)
    carried = getattr(model, model.base_model_prefix).state_dict()
    for name, tensor in student.state_dict().items():
        if name in carried:
            assert carried[name].equal(tensor)
    assert {name for name in carried if name not in student.state_dict()} <= {"pooler.weight", "pooler.bias"}

    tuning = FineTuning(model, task, spec, seed=0, device=CPU)
    before = tuning.score()
    epochs = [tuning.run_epoch() for _ in range(spec.epochs)]
    assert [one.epoch for one in epochs] == [1, 2, 3, 4]
    assert epochs[-1].train_loss < epochs[0].train_loss
    assert before < 0.75 < 0.9 < epochs[-1].score
    assert student.state_dict()["embeddings.word.weight" if heads == 3 else "embeddings.word_embeddings.weight"].equal(
        cut_student(teacher.weights, _shape(heads))["embeddings.word"]
    ), "the student itself was trained"


def _shape(heads: int) -> Architecture:
    return Architecture.alike(
        layers=2, hidden_size=32, heads=heads, head_width=16, intermediate_size=64, teacher_layers=4
    )


def test_a_similarity_of_pairs_is_learned_as_a_regression(open_one: Callable[..., Teacher]) -> None:
    teacher = open_one()
    spec = make_spec(metric="spearman", text_columns=["a", "b"], epochs=6)
    task = encode(teacher, similarity_task(), spec)
    assert task.train.types_T is not None
    assert set(task.train.types_T.tolist()) == {0, 1}
    tuning = FineTuning(classifier(student_of(teacher), task, seed=0), task, spec, seed=0, device=CPU)
    scores = [tuning.run_epoch().score for _ in range(spec.epochs)]
    assert scores[-1] > 0.9


def test_labels_far_from_zero_are_learned_as_well(open_one: Callable[..., Teacher]) -> None:
    teacher = open_one()
    spec = make_spec(metric="spearman", text_columns=["a", "b"], epochs=6)
    task = encode(teacher, similarity_task(), spec)
    far = replace(task, train=_shifted(task.train), validation=_shifted(task.validation))
    tuning = FineTuning(classifier(student_of(teacher), far, seed=0), far, spec, seed=0, device=CPU)
    labels, first = far.train.labels_N, tuning.predict(far.train)
    assert abs(first.mean() - labels.mean()) < 2 * labels.std()
    scores = [tuning.run_epoch().score for _ in range(spec.epochs)]
    assert scores[-1] > 0.9
    assert np.abs(tuning.predict(far.validation) - far.validation.labels_N).mean() < labels.std()


def _shifted(rows: EncodedRows) -> EncodedRows:
    return replace(rows, labels_N=(1000 + 50 * rows.labels_N).astype(rows.labels_N.dtype))


def test_the_same_seed_gives_the_same_scores_and_another_others(open_one: Callable[..., Teacher]) -> None:
    teacher, spec = open_one(), make_spec(epochs=1)
    task = encode(teacher, word_task(80), spec)

    def run(seed: int) -> float:
        model = classifier(student_of(teacher), task, seed=seed)
        tuning = FineTuning(model, task, spec, seed=seed, device=CPU)
        torch.rand(seed + 5)  # other draws of random numbers do not matter
        return tuning.run_epoch().train_loss

    assert run(0) == run(0) != run(1)


def test_a_teacher_with_its_pooler_is_fine_tuned_as_it_is(open_one: Callable[..., Teacher]) -> None:
    teacher, spec = open_one(), make_spec(epochs=1)
    task = encode(teacher, word_task(80), spec)
    model = classifier(teacher.model, task, seed=0)
    assert model.bert.pooler.dense.weight.equal(teacher.weights["pooler.weight"])
    FineTuning(model, task, spec, seed=0, device=CPU).run_epoch()
    assert not model.bert.pooler.dense.weight.equal(teacher.weights["pooler.weight"])
    assert not any(one.requires_grad for one in teacher.model.parameters())


def test_a_batch_holds_the_rows_asked_for_padded_to_the_longest(open_one: Callable[..., Teacher]) -> None:
    teacher = open_one()
    data = split((["a", "the lazy dog", "house", "x"], ["fox", "b", "geese run", "y"]), np.array([0, 1, 0, 1]), (0, 1))
    rows = encode(teacher, data, make_spec(text_columns=["a", "b"])).train
    batch, labels = rows.batch(np.array([1, 0]), teacher.tokenizer.pad_token_id)
    expected = teacher.tokenizer(["the lazy dog", "a"], ["b", "fox"], padding=True, return_tensors="pt")
    assert batch.input_ids_BL.equal(expected["input_ids"])
    assert batch.mask_BL is not None and batch.mask_BL.long().equal(expected["attention_mask"])
    assert batch.token_types_BL is not None and batch.token_types_BL.equal(expected["token_type_ids"])
    assert labels.tolist() == [1, 0]


def test_long_texts_are_cut_and_too_long_a_length_is_refused(open_one: Callable[..., Teacher]) -> None:
    teacher = open_one("roberta")
    data = split((["fox dog " * 50] * 4,), np.array([0, 1, 0, 1]), (0, 1))
    assert set(np.diff(encode(teacher, data, make_spec(sequence_length=20)).train.starts_N1)) == {20}
    with pytest.raises(InputError, match="at most 128"):  # 130 positions, two of them before the first token
        encode(teacher, data, make_spec(sequence_length=129))
