"""A student of our own class is a teacher like any other: opened, read, cut, exported and loaded again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForMaskedLM

from tests.teachers import FAMILIES, SENTENCES
from workloads.craft.card import CardFacts
from workloads.craft.cutting import cut_student
from workloads.craft.export import export_student
from workloads.craft.families import STILLROOM
from workloads.craft.importance import apply_order, importance_order
from workloads.craft.latency.runtimes import load_model
from workloads.craft.objectives.term import LearnedMap
from workloads.craft.signals import Batch, Wants
from workloads.craft.stillroom_model.modeling_stillroom import StillroomForMaskedLM
from workloads.craft.superlm import SuperLM
from workloads.craft.superlm_files import build_superlm, wiring_of
from workloads.craft.teacher import Teacher, open_teacher
from workloads.shapes.architecture import Architecture, Layer
from workloads.shapes.costs import student_cost
from workloads.shapes.search_space import ListedSpace, ProductSpace
from workloads.shapes.teacher_files import shape_of
from workloads.spec.errors import InputError

Make = Callable[..., Path]

FREE = Architecture.alike(layers=3, hidden_size=40, heads=3, head_width=16, intermediate_size=100, teacher_layers=4)
RAGGED = Architecture(48, (Layer(2, 16, 100, 0), Layer(0, 16, 60, 1), Layer(3, 16, 0, 2), Layer(2, 16, 80, 3)))
PAPER = ProductSpace("paper", (2, 3), (24, 32), (2.0, 2.5), (2, 3), 16, 3)  # type: ignore[arg-type]
STOCK = Architecture.alike(layers=2, hidden_size=32, heads=2, head_width=16, intermediate_size=64, teacher_layers=3)


def card(teacher: Teacher, architecture: Architecture) -> CardFacts:
    return CardFacts(
        name="edge",
        teacher=str(teacher.folder),
        corpus=("sotu",),
        documents=240,
        tokens=160_000,
        method="autodistil",
        family=teacher.shape.vocabulary.family,
        architecture=architecture,
        cost=student_cost(teacher.shape, architecture),
        objective="kl relations",
        heldout_loss=0.25,
        output_trained=False,
        seed=1,
        pooler=teacher.shape.vocabulary.pooler,
    )


def export(folder: Path, teacher: Teacher, architecture: Architecture) -> Path:
    weights = cut_student(teacher.weights, architecture)
    export_student(folder, teacher, architecture, weights, card(teacher, architecture))
    return folder


@pytest.fixture(scope="module", params=FAMILIES)
def first(request: pytest.FixtureRequest, make_teacher: Make, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    return open_teacher(make_teacher(tmp_path_factory.mktemp("teacher"), request.param))


@pytest.fixture(scope="module", params=[FREE, RAGGED], ids=["free heads", "ragged"])
def assistant(request: pytest.FixtureRequest, first: Teacher, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    """A student of our own class, opened as a teacher."""
    return open_teacher(export(tmp_path_factory.mktemp("assistant"), first, request.param))


def encode(teacher: Teacher) -> Batch:
    encoded = teacher.tokenizer(SENTENCES[:3], SENTENCES[3:], padding=True, return_tensors="pt")
    return Batch(encoded["input_ids"], encoded["attention_mask"].bool(), encoded.get("token_type_ids"))


def outputs(model: Any, batch: Batch) -> Tensor:
    assert batch.mask_BL is not None
    types = {} if batch.token_types_BL is None else {"token_type_ids": batch.token_types_BL}
    with torch.no_grad():
        found = model(input_ids=batch.input_ids_BL, attention_mask=batch.mask_BL.long(), **types).last_hidden_state
    return found[batch.mask_BL]  # type: ignore[no-any-return]


def test_it_has_the_shape_it_was_saved_with_and_reads_what_its_teacher_reads(
    first: Teacher, assistant: Teacher
) -> None:
    shape = assistant.shape
    assert assistant.family is STILLROOM and shape.vocabulary == first.shape.vocabulary
    assert shape == shape_of(assistant.folder)
    for one, saved in zip(shape.architecture.layers, (FREE if shape.layers == 3 else RAGGED).layers, strict=True):
        assert one.widths == saved.widths
    assert shape.longest == first.shape.longest
    assert (
        sum(tensor.numel() for tensor in assistant.weights.values()) == student_cost(shape, shape.architecture).params
    )


def test_the_signals_of_its_layers_are_those_of_its_forward(assistant: Teacher) -> None:
    batch, last = encode(assistant), assistant.shape.layers
    everything = frozenset(range(1, last + 1))
    found = STILLROOM.read(assistant.model, batch, Wants(frozenset([last]), everything, everything, output=True))
    layer = assistant.shape.architecture.layers[-1]
    assert found.queries[last].shape[-1] == found.contexts[last].shape[-1] == layer.heads * layer.head_width
    assert found.output_BLH is not None and torch.equal(found.output_BLH, found.hidden[last])
    torch.testing.assert_close(found.output_BLH[batch.mask_BL], outputs(assistant.model, batch))
    layers = assistant.shape.architecture.layers
    assert set(found.contexts) == {number for number, one in enumerate(layers, start=1) if one.heads}
    assert set(found.inner) == {number for number, one in enumerate(layers, start=1) if one.intermediate_size}


def test_the_superlm_of_the_whole_of_it_gives_what_it_gives(assistant: Teacher) -> None:
    batch, whole = encode(assistant), assistant.shape.architecture
    superlm = SuperLM.from_teacher(assistant.weights, ListedSpace("whole", (whole,)), wiring_of(assistant)).eval()
    with torch.no_grad():
        found = superlm(batch, whole, Wants(output=True)).output_BLH
    assert found is not None
    torch.testing.assert_close(found[batch.mask_BL], outputs(assistant.model, batch), rtol=1e-4, atol=2e-5)


def test_its_importance_orders_change_nothing_in_the_whole_of_it(assistant: Teacher) -> None:
    batch, whole = encode(assistant), assistant.shape.architecture
    order = importance_order(assistant, [batch])
    assert not torch.equal(order.hidden, torch.arange(whole.hidden_size))
    assert [len(one) for one in order.heads] == [layer.heads for layer in whole.layers]
    ordered = apply_order(assistant.weights, order)
    superlm = SuperLM.from_teacher(ordered, ListedSpace("whole", (whole,)), wiring_of(assistant))
    with torch.no_grad():
        found = superlm(batch, whole, Wants(output=True)).output_BLH
    assert found is not None
    expected = outputs(assistant.model, batch)[:, order.hidden]
    torch.testing.assert_close(found[batch.mask_BL], expected, rtol=1e-4, atol=5e-5)


def test_students_of_a_student_are_cut_exported_and_loaded(first: Teacher, tmp_path: Path) -> None:
    teacher = open_teacher(export(tmp_path / "assistant", first, FREE))
    batch = encode(teacher)
    superlm = build_superlm(teacher, PAPER, order=None, maps=[LearnedMap("projection")]).superlm.eval()
    for architecture in (PAPER.smallest, PAPER.largest):
        weights = superlm.extract(architecture)
        folder = tmp_path / architecture.describe()
        export_student(folder, teacher, architecture, weights, card(teacher, architecture))
        loaded = AutoModel.from_pretrained(folder, trust_remote_code=True)
        with torch.no_grad():
            found = superlm(batch, architecture, Wants(output=True)).output_BLH
        assert found is not None
        torch.testing.assert_close(outputs(loaded, batch), found[batch.mask_BL], rtol=1e-4, atol=2e-5)
        assert loaded.num_parameters() == student_cost(teacher.shape, architecture).params
        assert torch.equal(outputs(load_model(folder), batch), outputs(loaded, batch))


def test_a_student_of_a_student_that_a_stock_class_expresses_is_saved_as_that_class(
    first: Teacher, tmp_path: Path
) -> None:
    teacher = open_teacher(export(tmp_path / "assistant", first, FREE))
    folder = export(tmp_path / "student", teacher, STOCK)
    loaded = AutoModel.from_pretrained(folder)
    assert type(loaded) is type(first.model)
    assert loaded.config.pad_token_id == first.config.pad_token_id
    own = SuperLM.from_teacher(teacher.weights, ListedSpace("one", (STOCK,)), wiring_of(teacher)).eval()
    with torch.no_grad():
        found = own(encode(teacher), STOCK, Wants(output=True)).output_BLH
    assert found is not None
    batch = encode(teacher)
    torch.testing.assert_close(outputs(loaded, batch), found[batch.mask_BL], rtol=1e-4, atol=2e-5)
    assert open_teacher(folder).shape.vocabulary == first.shape.vocabulary


def test_a_student_saved_before_families_were_named_is_opened(first: Teacher, tmp_path: Path) -> None:
    folder = export(tmp_path, first, FREE)
    config = json.loads((folder / "config.json").read_text())
    named = config.pop("family")
    (folder / "config.json").write_text(json.dumps(config))
    found = open_teacher(folder).shape.vocabulary
    assert found.family == {"xlm-roberta": "roberta"}.get(named, named)
    assert found.reserved_positions == first.shape.vocabulary.reserved_positions


def test_a_head_over_the_vocabulary_can_be_put_on_and_gives_logits(first: Teacher, tmp_path: Path) -> None:
    folder = export(tmp_path / "student", first, FREE)
    with pytest.raises(InputError, match="lacks a masked-lm head"):
        open_teacher(folder, "masked-lm")
    tuned = AutoModelForMaskedLM.from_pretrained(folder, trust_remote_code=True)
    batch = encode(first)
    loss = tuned(batch.input_ids_BL, batch.mask_BL, labels=batch.input_ids_BL).loss
    loss.backward()
    assert loss.isfinite() and tuned.head.decoder.weight is tuned.stillroom.embeddings.word.weight
    tuned.save_pretrained(tmp_path / "tuned")
    first.tokenizer.save_pretrained(tmp_path / "tuned")
    again = open_teacher(tmp_path / "tuned", "masked-lm")
    assert isinstance(again.model, StillroomForMaskedLM)
    logits = STILLROOM.read(again.model, batch, Wants(head=True)).head
    assert logits is not None
    with torch.no_grad():
        torch.testing.assert_close(logits, tuned.eval()(batch.input_ids_BL, batch.mask_BL, batch.token_types_BL).logits)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"num_attention_heads": [3, 3]}, "lists 2 values of num_attention_heads"),
        ({"head_width": 0}, "head_width: 0"),
        ({"position_counting": "backwards"}, "position_counting: "),
        ({"position_counting": "after-padding"}, "which is not that of bert"),
        ({"family": "gpt2"}, "family: "),
        ({"intermediate_size": 99}, "intermediate_size: 99"),
        ({"num_hidden_layers": 2}, "does not have"),
    ],
)
def test_a_students_configuration_that_does_not_fit_is_refused_by_its_key(
    make_teacher: Make, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    folder = export(tmp_path / "student", open_teacher(make_teacher(tmp_path / "teacher", "bert")), FREE)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(InputError, match=problem):
        open_teacher(folder)


def test_a_shape_without_a_teachers_layers_starts_at_random_and_may_have_heads_and_an_activation_of_its_own(
    make_teacher: Make, tmp_path: Path
) -> None:
    teacher = open_teacher(make_teacher(tmp_path / "teacher", "bert"))
    architecture = Architecture(32, (Layer(8, 4, 64), Layer(8, 4, 64)), activation="relu")
    superlm = SuperLM.from_teacher(teacher.weights, ListedSpace("alone", (architecture,)), wiring_of(teacher)).eval()
    weights = superlm.extract(architecture)
    assert torch.equal(weights["embeddings.word"], teacher.weights["embeddings.word"][:, :32])
    assert 0.015 < weights["layers.0.query.weight"].std() < 0.025 and not weights["layers.1.output.bias"].any()
    assert not torch.equal(weights["layers.0.query.weight"], weights["layers.1.query.weight"])
    export_student(tmp_path / "student", teacher, architecture, weights, card(teacher, architecture))
    loaded, batch = AutoModel.from_pretrained(tmp_path / "student"), encode(teacher)
    assert loaded.config.hidden_act == "relu"
    with torch.no_grad():
        found = superlm(batch, architecture, Wants(output=True)).output_BLH
    assert found is not None
    torch.testing.assert_close(outputs(loaded, batch), found[batch.mask_BL], rtol=1e-4, atol=2e-5)
