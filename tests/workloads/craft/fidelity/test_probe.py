"""Probes on real models: what is compared with what, for every kind of head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.teachers import SENTENCES, add_modules
from workloads.craft.fidelity.probe import Probe
from workloads.craft.signals import Batch
from workloads.craft.superlm_files import build_superlm
from workloads.craft.teacher import Teacher, open_teacher
from workloads.shapes.architecture import Architecture
from workloads.shapes.search_space import ListedSpace

Make = Callable[..., Path]
SMALL = Architecture.alike(layers=2, hidden_size=32, heads=2, head_width=16, intermediate_size=96, teacher_layers=3)


def batches(teacher: Teacher, texts: list[Any]) -> list[Batch]:
    found = []
    for start in range(0, len(texts), 5):
        tokens = teacher.tokenizer(texts[start : start + 5], return_tensors="pt", padding=True)
        found.append(Batch(tokens["input_ids"], tokens["attention_mask"].bool(), tokens.get("token_type_ids")))
    return found


TEXTS = [f"{one} {other}" for one in SENTENCES for other in SENTENCES][:40]


@pytest.mark.parametrize(
    ("kind", "figures"),
    [
        ("classification", {"agreement", "kl"}),
        ("token-classification", {"agreement", "kl"}),
        ("embedding", {"cosine", "similarity_spearman", "neighbours_at_10"}),
    ],
)
def test_a_teacher_is_faithful_to_itself_and_a_cut_subnet_is_not(
    make_teacher: Make, tmp_path: Path, kind: Any, figures: set[str]
) -> None:
    folder = make_teacher(tmp_path, layers=3, head=None if kind == "embedding" else kind)
    if kind == "embedding":
        add_modules(folder)
    teacher = open_teacher(folder, kind)
    probe = Probe.read(teacher, batches(teacher, TEXTS))
    itself = probe.of_saved(teacher)
    assert set(itself.figures) == figures == set(itself.interval)
    assert itself.rows == len(TEXTS)
    assert all(value == pytest.approx(0 if name == "kl" else 1, abs=1e-6) for name, value in itself.figures.items())
    space = ListedSpace("all", (teacher.shape.architecture, SMALL))
    superlm = build_superlm(teacher, space, order=None).superlm.eval()
    whole, cut = probe.of_subnet(superlm, teacher.shape.architecture), probe.of_subnet(superlm, SMALL)
    assert whole.interval == cut.interval == {}
    for name, value in whole.figures.items():
        assert value == pytest.approx(itself.figures[name], abs=1e-3)
        if name != "agreement":  # a random classifier may give one label to all
            assert (cut.figures[name] > value) if name == "kl" else (cut.figures[name] < 0.999)


def test_tokens_around_texts_do_not_count(make_teacher: Make, tmp_path: Path) -> None:
    teacher = open_teacher(make_teacher(tmp_path, layers=2, head="token-classification"), "token-classification")
    given = batches(teacher, TEXTS)
    probe = Probe.read(teacher, given)
    other = probe.outputs_NC.clone()
    ids = torch.cat([batch.input_ids_BL[batch.mask_BL] for batch in given if batch.mask_BL is not None])
    around = torch.isin(ids, torch.tensor([teacher.tokenizer.cls_token_id, teacher.tokenizer.sep_token_id]))
    assert around.sum() == 2 * len(TEXTS)
    other[around] = -other[around]
    assert probe.compare(other).agreement == 1.0
    assert probe.texts_N is not None
    assert len(probe.texts_N) == len(ids) - 2 * len(TEXTS)
    assert probe.texts_N[-1] == len(TEXTS) - 1
    assert probe.compare(-probe.outputs_NC).agreement != 1.0


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_rows_of_pairs_that_share_a_text_are_lists_of_a_reranker(
    make_teacher: Make, tmp_path: Path, family: str
) -> None:
    folder = make_teacher(tmp_path, family, layers=2, head="classification", labels=1)
    teacher = open_teacher(folder, "classification")
    pairs = [(query, text) for query in SENTENCES[:3] for text in SENTENCES]
    probe = Probe.read(teacher, batches(teacher, pairs))
    assert probe.lists_N is not None
    assert probe.lists_N.tolist() == np.repeat(np.arange(3), len(SENTENCES)).tolist()
    found = probe.compare(probe.outputs_NC * 3 + 1)
    assert found.figures == {"spearman": pytest.approx(1.0), "kendall": pytest.approx(1.0)}
    turned = probe.compare(-probe.outputs_NC)
    assert turned.figures == {"spearman": pytest.approx(-1.0), "kendall": pytest.approx(-1.0)}
    single = Probe.read(teacher, batches(teacher, TEXTS))
    assert single.lists_N is None


def test_labels_have_the_teachers_names(make_teacher: Make, tmp_path: Path) -> None:
    teacher = open_teacher(make_teacher(tmp_path, layers=2, head="classification", labels=3), "classification")
    found = Probe.read(teacher, batches(teacher, TEXTS)).of_saved(teacher)
    assert found.per_class is not None
    assert list(found.per_class) == [teacher.config.id2label[index] for index in range(3)]
    assert sum(one.count for one in found.per_class.values()) == len(TEXTS)
