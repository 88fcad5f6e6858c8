"""Terms on the outputs of heads: by hand, by groups, and trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.teachers import SENTENCES, add_modules
from workloads.craft.objectives.logits import Logits
from workloads.craft.objectives.objective import objective_for
from workloads.craft.objectives.term import Counts, Term
from workloads.craft.objectives.vectors import Similarities, VectorDistance
from workloads.craft.outputs import subnet_outputs, teacher_outputs
from workloads.craft.signals import Batch, Signals
from workloads.craft.superlm_files import build_superlm
from workloads.craft.teacher import open_teacher
from workloads.craft.training import GroupTrainer, Member, Worker
from workloads.shapes.architecture import Architecture
from workloads.shapes.heads import Dense, LogitsHead, VectorHead
from workloads.shapes.search_space import ListedSpace
from workloads.shapes.teacher_files import named_shape
from workloads.spec.errors import InputError
from workloads.spec.request import ObjectiveSpec, TrainingSpec

Make = Callable[..., Path]
SMALL = Architecture.alike(layers=2, hidden_size=32, heads=2, head_width=16, intermediate_size=96, teacher_layers=3)


def no_maps(name: str, x: Tensor) -> Tensor:
    raise AssertionError(name)


def rows_of(term: Term, student: Tensor, teacher: Tensor) -> Tensor:
    rows = len(student)
    batch = Batch(torch.zeros(rows, 1, dtype=torch.long))
    targets = term.targets(Signals(head=teacher), batch, None)
    return term.loss_rows(Signals(head=student), targets, batch, Counts(rows, rows, rows), no_maps)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_binary_kl_is_that_of_each_label(temperature: float) -> None:
    teacher, student = torch.randn(5, 3), torch.randn(5, 3)
    p, q = ((x / temperature).sigmoid() for x in (teacher, student))
    kl = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    expected = temperature**2 * kl.sum(-1) / 5
    torch.testing.assert_close(rows_of(Logits("binary-kl", temperature), student, teacher), expected)
    far = torch.tensor([[500.0, -500.0]])
    assert rows_of(Logits("binary-kl"), far, far).abs().max() < 1e-6
    assert rows_of(Logits("binary-kl"), far, -far).isfinite().all()


def test_distances_of_vectors_are_cosines_where_lengths_do_not_count() -> None:
    teacher, student = torch.randn(7, 4), torch.randn(7, 4)
    expected = (1 - F.cosine_similarity(student, teacher)) / 7
    torch.testing.assert_close(rows_of(VectorDistance(), student, teacher), expected)
    unit = [F.normalize(x, dim=-1) for x in (student, teacher)]
    torch.testing.assert_close(rows_of(VectorDistance(normalized=False), *unit), expected)
    longer = rows_of(VectorDistance(normalized=False), 2 * teacher, teacher)
    torch.testing.assert_close(longer, torch.full((7,), 0.5 / 7))


def test_similarities_are_compared_within_groups() -> None:
    teacher, student = torch.randn(7, 4), torch.randn(7, 4)
    term = Similarities(temperature=0.3, group=3)
    expected = torch.zeros(7)
    for group in ([0, 1, 2], [3, 4, 5], [6]):
        for row in group:
            others = [one for one in group if one != row]
            if others:
                t, s = (
                    torch.stack([F.cosine_similarity(x[row], x[one], dim=0) for one in others]) / 0.3
                    for x in (teacher, student)
                )
                expected[row] = F.kl_div(s.log_softmax(0), t.log_softmax(0), reduction="sum", log_target=True) / 7
    torch.testing.assert_close(rows_of(term, student, teacher), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(rows_of(term, teacher, teacher), torch.zeros(7), atol=1e-6, rtol=0)


def test_each_kind_has_its_terms_by_default() -> None:
    shape = named_shape("bert-base")
    kinds = {
        "single": LogitsHead("classification", 3),
        "multi": LogitsHead("classification", 3, "multi-label"),
        "number": LogitsHead("classification", 1, "regression"),
        "tokens": LogitsHead("token-classification", 5),
        "vector": VectorHead("mean", (Dense(768),), projected=True, normalize=True),
    }
    made = {name: objective_for(ObjectiveSpec(), shape.with_head(head)) for name, head in kinds.items()}
    ends = {name: [type(term).__name__ for term in one.terms[3:]] for name, one in made.items()}
    assert ends == {**{name: ["Logits"] for name in kinds}, "vector": ["VectorDistance", "Similarities"]}
    forms = {name: one.terms[3].form for name, one in made.items() if name != "vector"}  # type: ignore[attr-defined]
    assert forms == {"single": "kl", "multi": "binary-kl", "number": "mse", "tokens": "kl"}
    assert {one.layout for one in made.values()} == {"documents"}
    assert made["vector"].group == 32
    assert objective_for(ObjectiveSpec(), shape).layout == "packed"


@pytest.mark.parametrize(
    ("spec", "head", "field"),
    [
        ({"logits": {}}, None, "objective.logits"),
        ({"embedding": {}}, None, "objective.embedding"),
        ({"embedding": {}}, LogitsHead("classification", 2), "objective.embedding"),
        ({"relation": None, "logits": {"weight": 0}}, LogitsHead("classification", 2), "objective"),
    ],
)
def test_terms_of_other_kinds_and_none_at_all_are_refused(spec: Any, head: Any, field: str) -> None:
    with pytest.raises(InputError) as caught:
        objective_for(ObjectiveSpec.model_validate(spec), named_shape("bert-base").with_head(head))
    assert caught.value.errors[0].field == field


@pytest.mark.parametrize(
    ("kind", "size"), [("classification", None), ("token-classification", None), ("embedding", None), ("embedding", 9)]
)
def test_training_brings_a_students_outputs_to_its_teachers(
    make_teacher: Make, tmp_path: Path, kind: Any, size: int | None
) -> None:
    if kind == "embedding":
        folder = add_modules(make_teacher(tmp_path, "bert", layers=3), dense=[(24, "Tanh")])
    else:
        folder = make_teacher(tmp_path, "bert", layers=3, head=kind)
    teacher = open_teacher(folder, kind, size)
    found = teacher.tokenizer(SENTENCES, return_tensors="pt", padding=True)
    batch = Batch(found["input_ids"], found["attention_mask"].bool())
    objective = objective_for(ObjectiveSpec(relation_heads=2), teacher.shape)
    space = ListedSpace("one", (SMALL,))
    built = build_superlm(teacher, space, order=None, maps=objective.maps)
    training = TrainingSpec(learning_rate=3e-3, warmup_fraction=0, dropout=0.0, schedule="constant")
    trainer = GroupTrainer(
        teacher,
        {"one": Member(space, built.superlm, None, 60)},
        objective,
        training,
        seed=0,
        worker=Worker(torch.device("cpu")),
    )
    first = float(trainer.step(0, batch)["one"][0])
    for step in range(1, 60):
        last = float(trainer.step(step, batch)["one"][0])
    assert last < 0.5 * first
    wanted, given = teacher_outputs(teacher, [batch]), subnet_outputs(built.superlm, SMALL, [batch])
    if size is not None:  # in a space of its own; the learned map leads to the teacher's
        assert given.shape[-1] == size
        with torch.no_grad():
            given = built.superlm.learned_map("vector_projection", given)
    if kind == "embedding":
        assert F.cosine_similarity(wanted, given).mean() > 0.9
    else:
        assert (wanted.argmax(-1) == given.argmax(-1)).float().mean() > 0.9
