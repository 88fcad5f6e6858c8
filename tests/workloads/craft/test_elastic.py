from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from workloads.craft.elastic import FlatParameters, embedding, layer_norm, linear, linears

SIZES = {"weight": (10, 8), "bias": (10,)}


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def flat_parameters() -> FlatParameters:
    shapes = {"table": (11, 8), "dense.weight": (10, 8), "dense.bias": (10,), "norm.weight": (8,), "norm.bias": (8,)}
    flat = FlatParameters({name: torch.randn(shape) for name, shape in shapes.items()})
    flat.zero_grad()
    return flat


def plain_copies(flat: FlatParameters) -> dict[str, Tensor]:
    """Ordinary leaves of the same values."""
    return {name: flat[name].detach().clone().requires_grad_() for name in flat.shapes}


def assert_same_gradients(flat: FlatParameters, plain: dict[str, Tensor], *names: str) -> None:
    for name in names:
        expected, got = plain[name].grad, flat[name].grad
        assert expected is not None and expected.abs().sum() > 0
        torch.testing.assert_close(got, expected)


def assert_same_both_ways(got: Tensor, expected: Tensor, *inputs: Tensor) -> None:
    """Equal values, and equal gradients of two inputs under the same random upstream gradient."""
    torch.testing.assert_close(got, expected)
    upstream = torch.randn_like(expected)
    torch.autograd.backward(got, upstream)
    torch.autograd.backward(expected, upstream)
    if inputs:
        torch.testing.assert_close(inputs[0].grad, inputs[1].grad)


@pytest.mark.parametrize(("outputs", "inputs"), [(10, 8), (4, 8), (10, 5), (3, 2)])
def test_linear_on_a_leading_part_equals_a_plain_slice(outputs: int, inputs: int) -> None:
    flat = flat_parameters()
    plain = plain_copies(flat)
    x = torch.randn(2, 3, inputs, requires_grad=True)
    same_x = x.detach().clone().requires_grad_()
    got = linear(x, flat["dense.weight"], flat["dense.bias"], outputs)
    expected = F.linear(same_x, plain["dense.weight"][:outputs, :inputs], plain["dense.bias"][:outputs])
    assert_same_both_ways(got, expected, x, same_x)
    assert_same_gradients(flat, plain, "dense.weight", "dense.bias")


@pytest.mark.parametrize(("outputs", "inputs"), [(10, 8), (4, 8), (10, 5), (3, 2)])
def test_linear_layers_of_one_input_equal_each_alone(outputs: int, inputs: int) -> None:
    flat = FlatParameters({f"{name}.{part}": torch.randn(*size) for name in "qk" for part, size in SIZES.items()})
    flat.zero_grad()
    plain = plain_copies(flat)
    x = torch.randn(2, 3, inputs, requires_grad=True)
    same_x = x.detach().clone().requires_grad_()
    got = linears(x, [(flat[f"{name}.weight"], flat[f"{name}.bias"]) for name in "qk"], outputs)
    expected = [
        F.linear(same_x, plain[f"{name}.weight"][:outputs, :inputs], plain[f"{name}.bias"][:outputs]) for name in "qk"
    ]
    assert_same_both_ways(torch.stack(got), torch.stack(expected), x, same_x)
    assert_same_gradients(flat, plain, "q.weight", "q.bias", "k.weight", "k.bias")


def test_a_linear_layer_whose_output_is_not_used_has_no_gradient() -> None:
    flat = FlatParameters({f"{name}.{part}": torch.randn(*size) for name in "qk" for part, size in SIZES.items()})
    flat.zero_grad()
    x = torch.randn(2, 3, 8, requires_grad=True)
    used, _ = linears(x, [(flat[f"{name}.weight"], flat[f"{name}.bias"]) for name in "qk"], 4)
    torch.autograd.backward(used.sum())
    plain = F.linear(x.detach(), flat["q.weight"][:4], flat["q.bias"][:4])
    torch.testing.assert_close(used, plain)
    assert x.grad is not None and x.grad.any()
    for name in ("q.weight", "q.bias"):
        assert flat[name].grad.any()  # type: ignore[union-attr]
    for name in ("k.weight", "k.bias"):
        assert not flat[name].grad.any()  # type: ignore[union-attr]


@pytest.mark.parametrize(("outputs", "inputs"), [(11, 8), (10, 9)])
def test_a_layer_that_is_too_small_is_a_bug_that_shows(outputs: int, inputs: int) -> None:
    flat = flat_parameters()
    with pytest.raises(RuntimeError, match=r"shape \(10, 8\)"):
        linear(torch.randn(2, inputs), flat["dense.weight"], flat["dense.bias"], outputs)


@pytest.mark.parametrize("hidden", [8, 5])
def test_layer_norm_on_a_leading_part_equals_a_plain_slice(hidden: int) -> None:
    flat = flat_parameters()
    plain = plain_copies(flat)
    x = torch.randn(2, 3, hidden, requires_grad=True)
    same_x = x.detach().clone().requires_grad_()
    got = layer_norm(x, flat["norm.weight"], flat["norm.bias"], 1e-5)
    expected = F.layer_norm(same_x, (hidden,), plain["norm.weight"][:hidden], plain["norm.bias"][:hidden], 1e-5)
    assert_same_both_ways(got, expected, x, same_x)
    assert_same_gradients(flat, plain, "norm.weight", "norm.bias")


@pytest.mark.parametrize("hidden", [8, 5])
def test_embedding_of_leading_columns_equals_a_plain_slice_and_adds_up_repeated_rows(hidden: int) -> None:
    flat = flat_parameters()
    plain = plain_copies(flat)
    ids = torch.tensor([[3, 3, 10], [0, 3, 7]])
    got = embedding(ids, flat["table"], hidden)
    expected = F.embedding(ids, plain["table"][:, :hidden])
    assert_same_both_ways(got, expected)
    assert_same_gradients(flat, plain, "table")


def test_gradients_add_up_over_parts_until_zeroed() -> None:
    flat = flat_parameters()
    plain = plain_copies(flat)
    for outputs, inputs in ((4, 5), (10, 3)):
        x = torch.randn(6, inputs)
        torch.autograd.backward(linear(x, flat["dense.weight"], flat["dense.bias"], outputs).square().sum())
        torch.autograd.backward(
            F.linear(x, plain["dense.weight"][:outputs, :inputs], plain["dense.bias"][:outputs]).square().sum()
        )
    assert_same_gradients(flat, plain, "dense.weight", "dense.bias")
    flat.zero_grad()
    assert all(not flat[name].grad.any() for name in flat.shapes)  # type: ignore[union-attr]


def test_a_low_precision_forward_still_gives_full_precision_gradients() -> None:
    flat = flat_parameters()
    plain = plain_copies(flat)
    x = torch.randn(6, 5)
    with torch.autocast("cpu", torch.bfloat16):
        got = linear(x, flat["dense.weight"], flat["dense.bias"], 4)
        assert got.dtype == torch.bfloat16
    torch.autograd.backward(got.float().square().sum())
    torch.autograd.backward(F.linear(x, plain["dense.weight"][:4, :5], plain["dense.bias"][:4]).square().sum())
    for name in ("dense.weight", "dense.bias"):
        gradient = flat[name].grad
        assert gradient is not None and gradient.dtype == torch.float32
        torch.testing.assert_close(gradient, plain[name].grad, rtol=0.05, atol=0.2)


def test_a_backward_without_buffers_is_a_bug_that_shows() -> None:
    flat = FlatParameters({"dense.weight": torch.randn(4, 4), "dense.bias": torch.randn(4)})
    with pytest.raises(AssertionError, match="zero_grad"):
        torch.autograd.backward(linear(torch.randn(2, 4), flat["dense.weight"], flat["dense.bias"], 4).sum())


def test_matrices_decay_and_vectors_do_not() -> None:
    flat = flat_parameters()
    assert [part.numel() for part in flat.flats] == [11 * 8 + 10 * 8, 10 + 8 + 8]
    assert dict(flat.named_parameters()).keys() == {"decay", "plain"}


@pytest.mark.parametrize("moved", [False, True])
def test_views_share_memory_with_the_flats_and_keep_it_over_moves_and_zeroing(moved: bool) -> None:
    flat = flat_parameters()
    before = {name: flat[name].detach().clone() for name in flat.shapes}
    if moved:
        flat = flat.to(torch.float64).to(torch.float32)
    addresses = [part.grad.data_ptr() for part in flat.flats if part.grad is not None]
    flat.zero_grad()
    assert addresses == [part.grad.data_ptr() for part in flat.flats if part.grad is not None]
    for name, value in before.items():
        torch.testing.assert_close(flat[name].detach(), value)
    with torch.no_grad():
        for number, part in enumerate(flat.flats, 1):
            assert part.grad is not None
            part.fill_(number)
            part.grad.fill_(-number)
    for name, shape in flat.shapes.items():
        number = 1 if len(shape) > 1 else 2
        gradient = flat[name].grad
        assert gradient is not None and gradient.shape == shape
        assert bool((flat[name] == number).all()) and bool((gradient == -number).all())


def test_an_optimizer_on_the_flats_moves_the_views() -> None:
    flat = flat_parameters()
    before = flat["dense.weight"].detach().clone()
    optimizer = torch.optim.SGD(flat.flats, lr=0.5)
    torch.autograd.backward(linear(torch.ones(1, 8), flat["dense.weight"], flat["dense.bias"], 10).sum())
    optimizer.step()
    torch.testing.assert_close(flat["dense.weight"].detach(), before - 0.5)
