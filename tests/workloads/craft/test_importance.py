from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.teachers import FAMILIES, SENTENCES
from workloads.craft import importance
from workloads.craft.importance import apply_order, importance_order, measure_importance
from workloads.craft.signals import Batch, Wants
from workloads.craft.teacher import Teacher, open_teacher

Make = Callable[..., Path]


@pytest.fixture(params=FAMILIES)
def teacher(request: pytest.FixtureRequest, make_teacher: Make, tmp_path: Path) -> Teacher:
    return open_teacher(make_teacher(tmp_path / "teacher", request.param, layers=3))


def batch_of(teacher: Teacher) -> Batch:
    encoded = teacher.tokenizer(SENTENCES, padding=True, return_tensors="pt")
    return Batch(encoded["input_ids"], encoded["attention_mask"].bool())


def change(tensor: Tensor, part: slice | int, value: float) -> None:
    with torch.no_grad():
        tensor[part] = value


@pytest.mark.parametrize("layer", [0, 1])
def test_a_neuron_that_never_fires_comes_last_however_strong_its_outgoing_weights(teacher: Teacher, layer: int) -> None:
    weights = teacher.weights
    weights[f"layers.{layer}.intermediate.bias"][7] = -1e4
    weights[f"layers.{layer}.output.weight"][:, 7] = 100.0
    assert int(importance_order(teacher, [batch_of(teacher)]).neurons[layer][-1]) == 7


@pytest.mark.parametrize("layer", [0, 1])
def test_a_neuron_that_nothing_reads_comes_last_and_one_that_always_fires_first(teacher: Teacher, layer: int) -> None:
    weights = teacher.weights
    weights[f"layers.{layer}.output.weight"][:, 3] = 0.0
    weights[f"layers.{layer}.intermediate.bias"][5] = 1e3
    order = importance_order(teacher, [batch_of(teacher)]).neurons[layer]
    assert (int(order[0]), int(order[-1])) == (5, 3)


def test_a_head_whose_output_is_not_read_comes_last(teacher: Teacher) -> None:
    weights, width = teacher.weights, teacher.shape.head_width
    for layer in range(3):
        weights[f"layers.{layer}.attention_output.weight"][:, width : 2 * width] = 0.0
    order = importance_order(teacher, [batch_of(teacher)])
    assert {int(heads[-1]) for heads in order.heads} == {1}


def test_padding_does_not_count(teacher: Teacher) -> None:
    batch = batch_of(teacher)
    assert batch.mask_BL is not None
    longest = int(batch.mask_BL.sum(1).argmax())
    row = Batch(batch.input_ids_BL[longest : longest + 1], batch.mask_BL[longest : longest + 1])
    pad = torch.full((1, 20), teacher.facts.pad_token_id)
    longer = Batch(
        torch.cat([row.input_ids_BL, pad], 1), torch.cat([batch.mask_BL[longest][None], torch.zeros(1, 20).bool()], 1)
    )
    one, two = measure_importance(teacher, [row]), measure_importance(teacher, [longer])
    for name in ("hidden", "heads", "neurons"):
        torch.testing.assert_close(getattr(two, name), getattr(one, name), rtol=1e-4, atol=1e-6)


def test_rows_are_measured_a_few_at_once_and_heads_without_what_they_add(
    teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference sums over a whole batch, and computes each head's part of the residual stream."""
    batch, shape = batch_of(teacher), teacher.shape
    assert batch.mask_BL is not None
    monkeypatch.setattr(importance, "ROWS_AT_ONCE", 4)
    found = measure_importance(teacher, [batch, batch])
    layers = frozenset(range(1, shape.layers + 1))
    signals = teacher.family.read(teacher.model, batch, Wants(insides=layers))
    heads = [torch.zeros(0)] * shape.layers
    for layer in layers:
        context_TND = signals.contexts[layer][batch.mask_BL].view(-1, shape.heads, shape.head_width)
        weight = teacher.weights[f"layers.{layer - 1}.attention_output.weight"]
        added = torch.einsum("tnd,hnd->tnh", context_TND, weight.view(shape.hidden_size, shape.heads, -1))
        heads[layer - 1] = 2 * added.norm(dim=-1).sum(0)
    if shape.vocabulary.relative_buckets:
        heads = [torch.stack(heads).mean(0)] * shape.layers
    torch.testing.assert_close(list(found.heads), heads, rtol=1e-4, atol=1e-6)
    once = measure_importance(teacher, [batch])
    torch.testing.assert_close(list(found.neurons), [2 * one for one in once.neurons], rtol=1e-4, atol=1e-6)


def test_reordered_weights_are_the_same_numbers_in_other_places(teacher: Teacher) -> None:
    order = importance_order(teacher, [batch_of(teacher)])
    assert not torch.equal(order.hidden, torch.arange(teacher.shape.hidden_size))
    ordered = apply_order(teacher.weights, order)
    for name, tensor in teacher.weights.items():
        torch.testing.assert_close(ordered[name].flatten().sort().values, tensor.flatten().sort().values)
