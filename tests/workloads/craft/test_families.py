from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification

from tests.teachers import FAMILIES, SENTENCES
from workloads.craft.cutting import cut_student
from workloads.craft.families import family_of
from workloads.craft.signals import Batch, Wants
from workloads.craft.teacher import Teacher, open_teacher
from workloads.shapes.architecture import Architecture
from workloads.shapes.costs import student_cost
from workloads.spec.errors import InputError

# Shape letters: B rows, L tokens.

Make = Callable[..., Path]


@pytest.fixture(scope="module", params=FAMILIES)
def teacher(request: pytest.FixtureRequest, make_teacher: Make, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    return open_teacher(make_teacher(tmp_path_factory.mktemp("teacher"), request.param, layers=2))


def encode(teacher: Teacher) -> Batch:
    """Pairs of unlike lengths: padding, and both token types where there are any."""
    encoded = teacher.tokenizer(SENTENCES[:3], SENTENCES[3:], padding=True, return_tensors="pt")
    assert not encoded["attention_mask"].all()
    return Batch(encoded["input_ids"], encoded["attention_mask"].bool(), encoded.get("token_type_ids"))


def inputs(batch: Batch) -> dict[str, torch.Tensor]:
    given = {"input_ids": batch.input_ids_BL, "attention_mask": batch.mask_BL, "token_type_ids": batch.token_types_BL}
    return {name: tensor for name, tensor in given.items() if tensor is not None}


@torch.inference_mode()
def test_a_student_of_the_teachers_shape_with_its_weights_is_the_teacher(teacher: Teacher) -> None:
    student = teacher.family.student(teacher.config, teacher.shape.architecture, teacher.weights)
    given = inputs(encode(teacher))
    ours, theirs = student(**given), teacher.model(**given)
    assert torch.equal(ours.last_hidden_state, theirs.last_hidden_state)
    assert torch.equal(ours.pooler_output, theirs.pooler_output)
    assert type(student) is type(teacher.model)


@torch.inference_mode()
def test_a_student_has_a_memory_of_its_own(teacher: Teacher) -> None:
    student = teacher.family.student(teacher.config, teacher.shape.architecture, teacher.weights)
    before = teacher.weights["embeddings.word"].clone()
    student.get_input_embeddings().weight.zero_()
    assert torch.equal(teacher.weights["embeddings.word"], before)


@torch.inference_mode()
def test_reading_gives_what_the_layers_give(teacher: Teacher) -> None:
    batch = encode(teacher)
    signals = teacher.family.read(
        teacher.model, batch, Wants(relations=frozenset({1, 2}), hidden=frozenset({0, 1}), output=True)
    )
    states = teacher.model(**inputs(batch), output_hidden_states=True).hidden_states
    for index in (0, 1):
        for name, given in (("query", signals.queries), ("key", signals.keys), ("value", signals.values)):
            weight = teacher.weights[f"layers.{index}.{name}.weight"]
            bias = teacher.weights[f"layers.{index}.{name}.bias"]
            torch.testing.assert_close(given[index + 1], states[index] @ weight.T + bias)
    assert sorted(signals.hidden) == [0, 1] and signals.layers == 2
    assert torch.equal(signals.hidden[0], states[0]) and torch.equal(signals.hidden[1], states[1])
    assert signals.output_BLH is not None
    assert torch.equal(signals.output_BLH, states[2])
    assert signals.head is None


@torch.inference_mode()
def test_reading_stops_where_nothing_more_is_wanted(teacher: Teacher) -> None:
    batch, ran, before = encode(teacher), [], hooks(teacher)
    layers = teacher.model.encoder.layer
    watches = [
        layer.output.register_forward_hook(lambda module, given, output, at=at: ran.append(at))
        for at, layer in enumerate(layers)
    ]
    early = teacher.family.read(teacher.model, batch, Wants(relations=frozenset({2})))
    assert ran == [0]
    assert (early.output_BLH, early.hidden, list(early.queries)) == (None, {}, [2])
    whole = teacher.family.read(teacher.model, batch, Wants(relations=frozenset({2}), output=True))
    assert ran == [0, 0, 1]
    assert torch.equal(early.values[2], whole.values[2])
    for watch in watches:
        watch.remove()
    assert hooks(teacher) == before


def hooks(teacher: Teacher) -> int:
    return sum(len(module._forward_hooks) for module in teacher.model.modules())


def test_a_teacher_is_frozen_float32_and_in_evaluation_mode(teacher: Teacher) -> None:
    assert not teacher.model.training
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
    assert {parameter.dtype for parameter in teacher.model.parameters()} == {torch.float32}


def test_half_precision_checkpoints_load_as_float32(make_teacher: Make, tmp_path: Path) -> None:
    folder = make_teacher(tmp_path / "full", "bert", layers=1)
    teacher = open_teacher(folder)
    AutoModel.from_pretrained(folder).half().save_pretrained(folder)
    assert {parameter.dtype for parameter in open_teacher(folder).model.parameters()} == {torch.float32}
    assert open_teacher(folder).fingerprint != teacher.fingerprint


def test_weights_carry_their_canonical_names_and_count(teacher: Teacher) -> None:
    weights, shape = teacher.weights, teacher.shape
    assert weights["embeddings.word"].shape == (shape.vocabulary.vocab_size, 64)
    assert weights["layers.1.intermediate.weight"].shape == (256, 64)
    assert weights["layers.0.attention_output.bias"].shape == (64,)
    assert ("embeddings.token_type" in weights) == (shape.vocabulary.family != "mpnet")
    assert ("relative_bias" in weights) == (shape.vocabulary.family == "mpnet")
    params = student_cost(shape, shape.architecture).params
    assert sum(tensor.numel() for tensor in weights.values()) == params


def test_positions_are_those_of_the_stock_model(teacher: Teacher) -> None:
    batch, seen = encode(teacher), []
    table = teacher.model.embeddings.position_embeddings
    watch = table.register_forward_hook(lambda module, given, output: seen.append(given[0]))
    teacher.model(**inputs(batch))
    watch.remove()
    ours = teacher.facts.positions(batch.input_ids_BL)
    shape = batch.input_ids_BL.shape
    assert torch.equal(ours.expand(shape), seen[0].expand(shape))


def test_only_mpnet_has_relative_buckets(teacher: Teacher) -> None:
    buckets = teacher.facts.relative_buckets(100)
    if teacher.shape.vocabulary.family != "mpnet":
        assert buckets is None
        return
    assert buckets is not None
    stock_BNLL = teacher.model.encoder.compute_position_bias(torch.zeros(1, 100, 64))
    assert torch.equal(teacher.weights["relative_bias"][buckets].permute(2, 0, 1), stock_BNLL[0])


@pytest.mark.parametrize("pooler", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_smaller_stock_student_costs_what_is_counted(
    make_teacher: Make, tmp_path: Path, family: str, pooler: bool
) -> None:
    teacher = open_teacher(make_teacher(tmp_path, family, layers=2, pooler=pooler))
    architecture = Architecture.alike(
        layers=1, hidden_size=48, heads=3, head_width=16, intermediate_size=120, teacher_layers=2
    )
    weights = cut_student(teacher.weights, architecture)
    student = teacher.family.student(teacher.config, architecture, weights)
    assert student.num_parameters() == student_cost(teacher.shape, architecture).params
    assert ("pooler.weight" in weights) == pooler == teacher.shape.vocabulary.pooler


@pytest.mark.parametrize("head", ["masked-lm", "classification"])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_come_from_the_head(make_teacher: Make, tmp_path: Path, family: str, head: str) -> None:
    folder = make_teacher(tmp_path, family, layers=2, head=head)
    teacher = open_teacher(folder, head)  # type: ignore[arg-type]
    batch = encode(teacher)
    signals = teacher.family.read(teacher.model, batch, Wants(relations=frozenset({2}), head=True))
    stock = (AutoModelForMaskedLM if head == "masked-lm" else AutoModelForSequenceClassification).from_pretrained(
        folder
    )
    assert signals.head is not None
    torch.testing.assert_close(signals.head, stock(**inputs(batch)).logits)
    assert signals.queries[2].shape[-1] == 64
    assert len(teacher.weights) > 20


def test_a_head_that_the_checkpoint_lacks_is_refused(make_teacher: Make, tmp_path: Path) -> None:
    folder = make_teacher(tmp_path, "bert", layers=1)
    with pytest.raises(InputError, match="lacks a masked-lm head"):
        open_teacher(folder, "masked-lm")


def test_a_family_that_is_not_supported_is_named() -> None:
    with pytest.raises(InputError, match="'gpt2' is not supported"):
        family_of("gpt2")
