from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests.teachers import FAMILIES, SENTENCES
from workloads.craft.dropout import Dropout, DropoutKey
from workloads.craft.export import build_student, stillroom_student
from workloads.craft.signals import Batch, Signals, Wants
from workloads.craft.superlm import SuperLM
from workloads.craft.superlm_files import load_superlm, save_superlm, wiring_of
from workloads.craft.teacher import Teacher, open_teacher
from workloads.shapes.architecture import Architecture, Layer
from workloads.shapes.search_space import ProductSpace

Make = Callable[..., Path]

STOCK = ProductSpace("stock", (2, 3), (32, 48), (2.0, 4.0), None, 16, 4)
PAPER = ProductSpace("paper", (2, 4), (24, 40), (2.5, 4.0), (3, 4), 16, 4)  # attention wider than the hidden size
FULL = ProductSpace("full", (4,), (64,), (4.0,), None, 16, 4)
SPACES = pytest.mark.parametrize("space", [STOCK, PAPER], ids=["stock", "paper"])


@pytest.fixture(scope="module", params=FAMILIES)
def teacher(request: pytest.FixtureRequest, make_teacher: Make, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    return open_teacher(make_teacher(tmp_path_factory.mktemp("teacher"), request.param))


@pytest.fixture(scope="module")
def bert(make_teacher: Make, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    return open_teacher(make_teacher(tmp_path_factory.mktemp("teacher"), "bert"))


def superlm_of(teacher: Teacher, space: ProductSpace) -> SuperLM:
    superlm = SuperLM.from_teacher(teacher.weights, space, wiring_of(teacher))
    superlm.flat.zero_grad()
    return superlm.eval()


def encode(teacher: Teacher, first: Sequence[str] = SENTENCES[:3], second: Sequence[str] = SENTENCES[3:]) -> Batch:
    """Pairs of sentences of different lengths: padding, and token types where the family has them."""
    encoded = teacher.tokenizer(list(first), list(second), padding=True, return_tensors="pt")
    mask_BL = encoded["attention_mask"].bool()
    assert not mask_BL.all()
    return Batch(encoded["input_ids"], mask_BL, encoded.get("token_type_ids"))


def everything(architecture: Architecture) -> Wants:
    last = len(architecture.layers)
    return Wants(relations=frozenset([1, last]), hidden=frozenset([0, last]), output=True)


def read(student: PreTrainedModel, batch: Batch, layer: str, names: tuple[str, str, str]) -> tuple[Tensor, ...]:
    """The student's queries, keys and values of one layer, then its output."""
    taken: list[Tensor] = []
    hooks = [
        student.get_submodule(f"{layer}.{name}").register_forward_hook(lambda _m, _i, out: taken.append(out))
        for name in names
    ]
    types = {} if batch.token_types_BL is None else {"token_type_ids": batch.token_types_BL}
    assert batch.mask_BL is not None
    with torch.no_grad():
        output = student(input_ids=batch.input_ids_BL, attention_mask=batch.mask_BL.long(), **types)
    for hook in hooks:
        hook.remove()
    return (*taken, output.last_hidden_state)


def assert_close_where_real(got: Sequence[Tensor], expected: Sequence[Tensor], batch: Batch) -> None:
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one[batch.mask_BL], other[batch.mask_BL], rtol=1e-4, atol=2e-5)


def last_of(signals: Signals) -> tuple[Tensor, ...]:
    assert signals.output_BLH is not None
    last = max(signals.queries)
    return signals.queries[last], signals.keys[last], signals.values[last], signals.output_BLH


@SPACES
def test_a_slice_gives_what_the_extracted_student_gives(teacher: Teacher, space: ProductSpace) -> None:
    superlm, batch = superlm_of(teacher, space), encode(teacher)
    for architecture in (space.smallest, space.largest):
        with torch.no_grad():
            got = last_of(superlm(batch, architecture, everything(architecture)))
        weights = superlm.extract(architecture)
        assert architecture.stock == (space is STOCK)
        student = stillroom_student(teacher, architecture, weights)
        layer = f"layers.{len(architecture.layers) - 1}"
        expected = read(student, batch, layer, ("query", "key", "value"))
        assert_close_where_real(got, expected, batch)
        if architecture.stock:
            stock = build_student(teacher, architecture, weights)
            names = ("q", "k", "v") if teacher.shape.vocabulary.family == "mpnet" else ("query", "key", "value")
            inner = "attn" if teacher.shape.vocabulary.family == "mpnet" else "self"
            expected = read(stock, batch, f"encoder.{layer.replace('layers', 'layer')}.attention.{inner}", names)
            assert_close_where_real(got, expected, batch)


def test_the_full_size_subnet_is_the_teacher(teacher: Teacher) -> None:
    superlm, batch = superlm_of(teacher, FULL), encode(teacher)
    wants = Wants(relations=frozenset([2, 4]), hidden=frozenset([0, 1, 3]), output=True)
    with torch.no_grad():
        got, expected = superlm(batch, FULL.largest, wants), teacher.family.read(teacher.model, batch, wants)
    for part in ("queries", "keys", "values", "hidden"):
        assert getattr(got, part).keys() == getattr(expected, part).keys()
        pairs = getattr(got, part).values(), getattr(expected, part).values()
        assert_close_where_real(list(pairs[0]), list(pairs[1]), batch)
    assert got.output_BLH is not None and expected.output_BLH is not None
    assert_close_where_real([got.output_BLH], [expected.output_BLH], batch)


def test_the_largest_student_starts_as_a_prefix_slice_of_the_spread_layers(teacher: Teacher) -> None:
    cut = superlm_of(teacher, PAPER).extract(PAPER.smallest)
    assert [layer.source for layer in PAPER.smallest.layers] == [0, 3]
    source = teacher.weights["layers.3.attention_output.weight"]
    torch.testing.assert_close(cut["layers.1.attention_output.weight"], source[:24, :48])
    torch.testing.assert_close(cut["embeddings.word"], teacher.weights["embeddings.word"][:, :24])


def test_what_padding_holds_changes_nothing_at_real_tokens(teacher: Teacher) -> None:
    superlm, batch, architecture = superlm_of(teacher, STOCK), encode(teacher), STOCK.largest
    assert batch.mask_BL is not None
    if teacher.facts.position_counting == "from-zero":  # the others count positions by the padding's id
        other_ids = torch.where(batch.mask_BL, batch.input_ids_BL, 7)
        other = dataclasses.replace(batch, input_ids_BL=other_ids)
    else:
        other = Batch(torch.nn.functional.pad(batch.input_ids_BL, (0, 5), value=teacher.facts.pad_token_id))
        other = dataclasses.replace(other, mask_BL=torch.nn.functional.pad(batch.mask_BL, (0, 5)))
    length = batch.input_ids_BL.shape[1]
    with torch.no_grad():
        one = last_of(superlm(batch, architecture, everything(architecture)))
        two = last_of(superlm(other, architecture, everything(architecture)))
    assert_close_where_real(one, [part[:, :length] for part in two], batch)


@SPACES
def test_relations_alone_are_the_same_as_with_everything_else(teacher: Teacher, space: ProductSpace) -> None:
    superlm, batch, architecture = superlm_of(teacher, space), encode(teacher), space.largest
    last = len(architecture.layers)
    with torch.no_grad():
        alone = superlm(batch, architecture, Wants(relations=frozenset([last])))
        full = superlm(batch, architecture, everything(architecture))
    assert alone.output_BLH is None and not alone.hidden and alone.queries.keys() == {last}
    for part in ("queries", "keys", "values"):
        torch.testing.assert_close(getattr(alone, part)[last], getattr(full, part)[last], rtol=0, atol=0)


def test_relations_alone_leave_the_rest_of_the_last_layer_without_gradient(bert: Teacher) -> None:
    superlm, architecture = superlm_of(bert, STOCK), STOCK.smallest
    last, source = len(architecture.layers), architecture.layers[-1].source
    superlm(encode(bert), architecture, Wants(relations=frozenset([last]))).queries[last].square().sum().backward()
    for name, touched in (("query", True), ("value", False), ("attention_output", False), ("output", False)):
        gradient = superlm.flat[f"layers.{source}.{name}.weight"].grad
        assert gradient is not None and bool(gradient.any()) == touched, name


@SPACES
def test_gradients_of_two_subnets_add_up_to_those_of_plain_slices(teacher: Teacher, space: ProductSpace) -> None:
    batch, subnets = encode(teacher), (space.smallest, space.largest)

    def backward(superlm: SuperLM, architecture: Architecture) -> None:
        signals = superlm(batch, architecture, everything(architecture))
        sum(part[batch.mask_BL].square().mean() for part in last_of(signals)).backward()  # type: ignore[union-attr]

    together = superlm_of(teacher, space)
    for subnet in subnets:
        backward(together, subnet)
    apart = [superlm_of(teacher, space) for _ in subnets]
    for superlm, subnet in zip(apart, subnets, strict=True):
        backward(superlm, subnet)
    for number, flat in enumerate(together.flat.flats):
        parts = [superlm.flat.flats[number].grad for superlm in apart]
        assert parts[0] is not None and parts[1] is not None and flat.grad is not None
        assert parts[0].any() and not torch.equal(parts[0], parts[1])
        torch.testing.assert_close(flat.grad, parts[0] + parts[1], rtol=1e-4, atol=1e-6)


def test_a_subnets_gradients_are_those_of_the_extracted_student(teacher: Teacher) -> None:
    superlm, batch, architecture = superlm_of(teacher, PAPER), encode(teacher), PAPER.smallest
    signals = superlm(batch, architecture, Wants(output=True))
    assert signals.output_BLH is not None and batch.mask_BL is not None
    signals.output_BLH[batch.mask_BL].square().mul(torch.arange(24)).mean().backward()
    student = stillroom_student(teacher, architecture, superlm.extract(architecture))
    types = {} if batch.token_types_BL is None else {"token_type_ids": batch.token_types_BL}
    output = student(input_ids=batch.input_ids_BL, attention_mask=batch.mask_BL, **types).last_hidden_state
    output[batch.mask_BL].square().mul(torch.arange(24)).mean().backward()
    for name in (
        "layers.1.query.weight",
        "layers.0.output.bias",
        "layers.1.output_norm.weight",
        "embeddings.norm.bias",
    ):
        expected = student.get_parameter(name).grad
        shared = name.replace("layers.1.", f"layers.{architecture.layers[1].source}.")
        got = superlm.flat[shared].grad
        assert expected is not None and got is not None
        torch.testing.assert_close(got[tuple(slice(n) for n in expected.shape)], expected, rtol=1e-3, atol=1e-6)
    if student.relative_bias is not None:
        expected, got = student.relative_bias.weight.grad, superlm.flat["relative_bias"].grad
        assert expected is not None and got is not None and expected.any()
        torch.testing.assert_close(got[:, : expected.shape[1]], expected, rtol=1e-3, atol=1e-6)


def test_dropout_is_a_function_of_its_key_and_the_row(teacher: Teacher) -> None:
    superlm, batch, architecture = superlm_of(teacher, STOCK), encode(teacher), STOCK.largest
    key = DropoutKey(0, "stock", 3, 1)

    def output(probability: float, key: DropoutKey, rows: range) -> Tensor:
        dropout = Dropout(probability, key, rows, len(architecture.layers), torch.device("cpu"))
        with torch.no_grad():
            return last_of(superlm(batch.rows(rows), architecture, everything(architecture), dropout))[-1]

    with torch.no_grad():
        dry = last_of(superlm(batch, architecture, everything(architecture)))[-1]
    wet = output(0.3, key, range(3))
    assert torch.equal(wet, output(0.3, key, range(3))) and not torch.allclose(wet, dry, atol=0.1)
    torch.testing.assert_close(output(0.0, key, range(3)), dry, rtol=1e-4, atol=1e-5)
    for rows in (range(1), range(1, 3)):
        torch.testing.assert_close(output(0.3, key, rows), wet[rows.start : rows.stop], rtol=1e-4, atol=1e-5)
    for other in ("seed", "step", "subnet"):
        assert not torch.allclose(wet, output(0.3, dataclasses.replace(key, **{other: 7}), range(3)), atol=0.1)
    assert not torch.allclose(wet, output(0.3, dataclasses.replace(key, space="paper"), range(3)), atol=0.1)


@pytest.mark.parametrize("skipped", ["heads", "intermediate_size"])
def test_a_layer_without_heads_or_neurons_adds_nothing(teacher: Teacher, skipped: str) -> None:
    """The one part is skipped with its norm; without both, the layer is not there at all."""
    superlm, batch = superlm_of(teacher, STOCK), encode(teacher)
    first, *rest = STOCK.largest.layers
    lacking = dataclasses.replace(first, **{skipped: 0})
    nothing = dataclasses.replace(first, heads=0, intermediate_size=0)

    def output(*layers: Layer) -> Tensor:
        architecture, last = Architecture(STOCK.largest.hidden_size, layers), len(layers)
        with torch.no_grad():
            return superlm(batch, architecture, Wants(hidden=frozenset([last]))).hidden[last]

    torch.testing.assert_close(output(nothing, *rest), output(*rest), rtol=1e-4, atol=1e-5)
    got = output(lacking)
    with torch.no_grad():
        superlm.flat[
            f"layers.{first.source}.{'attention_output' if skipped == 'heads' else 'output'}.bias"
        ].detach().fill_(9.0)
    assert torch.equal(output(lacking), got) and not torch.allclose(output(first), got)


def test_no_mask_is_a_mask_of_real_tokens(teacher: Teacher) -> None:
    superlm, architecture = superlm_of(teacher, STOCK), STOCK.largest
    ids_BL = torch.randint(5, 50, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        without, masked = (
            last_of(superlm(Batch(ids_BL, mask), architecture, everything(architecture)))
            for mask in (None, torch.ones_like(ids_BL, dtype=torch.bool))
        )
    for one, other in zip(without, masked, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-5)


def test_a_saved_superlm_gives_the_same_again(bert: Teacher, tmp_path: Path) -> None:
    superlm, batch, architecture = superlm_of(bert, PAPER), encode(bert), PAPER.largest
    save_superlm(tmp_path, superlm)
    loaded = load_superlm(tmp_path, wiring_of(bert)).eval()
    with torch.no_grad():
        one, two = (last_of(model(batch, architecture, everything(architecture))) for model in (superlm, loaded))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_a_learned_projection_maps_every_width_to_the_teachers_and_comes_along(bert: Teacher) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(64, 64, generator=generator), torch.randn(64, generator=generator)
    weights = {**bert.weights, "projection.weight": weight, "projection.bias": bias}
    superlm = SuperLM.from_teacher(weights, STOCK, wiring_of(bert))
    assert superlm.projects and not superlm_of(bert, STOCK).projects
    x_BH = torch.randn(3, 32, generator=generator)
    torch.testing.assert_close(superlm.learned_map("projection", x_BH), x_BH @ weight[:, :32].T + bias)
    cut = superlm.extract(STOCK.smallest)
    torch.testing.assert_close(cut["projection.weight"], weight[:, :32])
    torch.testing.assert_close(cut["projection.bias"], bias)


def test_more_than_the_teacher_has_is_not_cut_short_in_silence(bert: Teacher) -> None:
    wiring = wiring_of(bert)
    for beyond in (
        dataclasses.replace(FULL, mlp_ratios=(4.5,)),
        dataclasses.replace(FULL, hidden_sizes=(80,), mlp_ratios=(1.0,)),
        dataclasses.replace(FULL, heads=(5,)),
    ):
        with pytest.raises(AssertionError):
            SuperLM.from_teacher(bert.weights, beyond, wiring)


def test_a_superlm_is_cut_for_a_space_that_is_never_listed(teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    space = dataclasses.replace(STOCK, layers=(1, 2, 3, 4))
    listed = sorted({layer.source for one in space for layer in one.layers})
    monkeypatch.setattr(ProductSpace, "__iter__", lambda self: pytest.fail("listed"))
    superlm = superlm_of(teacher, space)
    sources = {int(name.split(".")[1]) for name in superlm.flat.shapes if name.startswith("layers.")}
    assert sorted(sources) == listed
