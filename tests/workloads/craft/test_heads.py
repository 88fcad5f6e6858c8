from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from tests.teachers import FAMILIES, SENTENCES, add_modules
from workloads.craft.importance import importance_order
from workloads.craft.outputs import subnet_outputs, teacher_outputs
from workloads.craft.signals import Batch
from workloads.craft.superlm import SuperLM
from workloads.craft.superlm_files import build_superlm
from workloads.craft.teacher import Teacher, fetch_teacher, mark_kind, open_teacher
from workloads.shapes.architecture import Architecture
from workloads.shapes.costs import student_cost
from workloads.shapes.search_space import ListedSpace
from workloads.spec.request import TeacherSpec

Make = Callable[..., Path]
SMALL = Architecture.alike(layers=2, hidden_size=32, heads=2, head_width=16, intermediate_size=96, teacher_layers=3)


def encode(teacher: Teacher) -> Batch:
    found = teacher.tokenizer(SENTENCES, return_tensors="pt", padding=True)
    return Batch(found["input_ids"], found["attention_mask"].bool(), found.get("token_type_ids"))


def superlm_of(teacher: Teacher, *, ordered: bool) -> SuperLM:
    order = importance_order(teacher, [encode(teacher)]) if ordered else None
    space = ListedSpace("all", (teacher.shape.architecture, SMALL))
    return build_superlm(teacher, space, order=order).superlm.eval()


@pytest.mark.parametrize("kind", ["classification", "token-classification"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_superlm_gives_the_logits_of_its_teacher(make_teacher: Make, tmp_path: Path, family: str, kind: Any) -> None:
    folder = make_teacher(tmp_path, family, layers=3, head=kind)
    teacher, auto = open_teacher(folder, kind), AutoModelForTokenClassification
    if kind == "classification":
        auto = AutoModelForSequenceClassification
    batch = encode(teacher)
    with torch.inference_mode():
        expected = auto.from_pretrained(folder)(batch.input_ids_BL, batch.mask_BL).logits
    assert batch.mask_BL is not None
    expected = expected if kind == "classification" else expected[batch.mask_BL]
    torch.testing.assert_close(teacher_outputs(teacher, [batch]), expected)
    for ordered in (False, True):
        found = subnet_outputs(superlm_of(teacher, ordered=ordered), teacher.shape.architecture, [batch])
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert teacher.model.num_parameters() == student_cost(teacher.shape, teacher.shape.architecture).params


@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"])
def test_vectors_are_those_of_sentence_transformers(make_teacher: Make, tmp_path: Path, pooling: str) -> None:
    folder = add_modules(make_teacher(tmp_path, "bert", layers=3), pooling=pooling)
    _check_vectors(folder, open_teacher(folder, "embedding"))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("dense", [[(48, "Identity")], [(40, "Tanh"), (24, "GELU")]])
def test_dense_modules_are_weight_shared(make_teacher: Make, tmp_path: Path, dense: Any, normalize: bool) -> None:
    folder = add_modules(make_teacher(tmp_path, "mpnet", layers=3), dense=dense, normalize=normalize)
    _check_vectors(folder, open_teacher(folder, "embedding"))


def test_the_transformer_may_be_in_a_folder_of_its_own(make_teacher: Make, tmp_path: Path) -> None:
    folder = make_teacher(tmp_path / "teacher", "roberta", layers=3)
    add_modules(folder, dense=[(48, "Tanh")], transformer="0_Transformer")
    into = fetch_teacher(TeacherSpec(model=str(folder)), tmp_path / "copy", "embedding")
    mark_kind(into, "embedding")
    copied = open_teacher(into)
    assert copied.shape.kind == "embedding"
    assert copied.fingerprint == open_teacher(folder, "embedding").fingerprint
    _check_vectors(into, copied)


def test_a_plain_folder_as_an_embedding_model_gives_the_mean(make_teacher: Make, tmp_path: Path) -> None:
    folder = make_teacher(tmp_path, "xlm-roberta", layers=3)
    _check_vectors(folder, open_teacher(folder, "embedding"))


def _check_vectors(folder: Path, teacher: Teacher) -> None:
    expected = torch.from_numpy(SentenceTransformer(str(folder), device="cpu").encode(SENTENCES))
    batch = encode(teacher)
    torch.testing.assert_close(teacher_outputs(teacher, [batch]), expected, atol=1e-5, rtol=1e-5)
    for ordered in (False, True):
        superlm = superlm_of(teacher, ordered=ordered)
        found = subnet_outputs(superlm, teacher.shape.architecture, [batch])
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        small = subnet_outputs(superlm, SMALL, [batch])
        assert small.shape == expected.shape
        extracted = superlm.extract(SMALL)
        assert sum(one.numel() for one in extracted.values()) == student_cost(teacher.shape, SMALL).params
    own, head = teacher.shape.of_teacher, teacher.modules
    assert head is not None
    counted = teacher.model.num_parameters() + sum(one.numel() for one in head.weights.values())
    assert counted == student_cost(own, own.architecture).params
