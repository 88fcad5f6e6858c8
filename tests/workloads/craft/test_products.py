"""Products by oneDNN against those of PyTorch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.craft import products

VIEWS = pytest.mark.parametrize(
    "view",
    [lambda w: w, lambda w: w[:5, :7], lambda w: w[:, :7], lambda w: w.t()[:7].t(), lambda w: w[::2]],
    ids=["whole", "slice", "columns", "transposed", "gaps"],
)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def by_onednn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The calls that oneDNN served."""
    calls: list[int] = []
    real = products._by_onednn

    def seen(x: Tensor, weight: Tensor) -> bool:
        served = real(x, weight)
        calls.extend([1] * served)
        return served

    monkeypatch.setattr(products, "_by_onednn", seen)
    return calls


@VIEWS
@pytest.mark.parametrize("shape", [(6,), (2, 3), (0,)])
@pytest.mark.parametrize("biased", [True, False])
@torch.no_grad()
def test_a_linear_layer_is_that_of_pytorch(
    view: Callable[[Tensor], Tensor], shape: tuple[int, ...], biased: bool
) -> None:
    weight = view(torch.randn(8, 9))
    bias = torch.randn(len(weight)) if biased else None
    x = torch.randn(*shape, weight.shape[1] + 1)[..., :-1]
    torch.testing.assert_close(products.linear(x, weight, bias), F.linear(x, weight, bias))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [6, 0])
@pytest.mark.parametrize("sizes", [(8, 9), (9, 8), (3, 3)])
@torch.no_grad()
def test_the_gradient_of_a_weight_is_that_of_pytorch(sizes: tuple[int, int], dtype: torch.dtype, tokens: int) -> None:
    grad, x = (torch.randn(tokens, size, dtype=dtype) for size in sizes)
    torch.testing.assert_close(products.outer(grad, x), grad.t() @ x)


@torch.no_grad()
def test_float32_on_a_cpu_is_by_onednn_and_low_precision_is_not(by_onednn: list[int]) -> None:
    x, weight = torch.randn(2, 3), torch.randn(4, 3)
    products.linear(x, weight)
    assert len(by_onednn) == products.HAS_ONEDNN
    assert products.linear(x.bfloat16(), weight.bfloat16()).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert products.linear(x, weight).dtype == torch.bfloat16
    assert len(by_onednn) == products.HAS_ONEDNN


def test_a_product_that_would_lose_its_gradient_is_a_bug_that_shows() -> None:
    with pytest.raises(AssertionError, match="gradient"):
        products.linear(torch.randn(2, 3), torch.randn(4, 3, requires_grad=True))


def test_linear_layers_of_a_model_are_by_onednn_within_the_context_alone(by_onednn: list[int]) -> None:
    model, x = nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 3)), torch.randn(4, 5)
    with torch.no_grad():
        expected = model(x)
        assert not by_onednn
        with products.fast_models():
            got = model(x)
        assert len(by_onednn) >= 2 * products.HAS_ONEDNN
        by_onednn.clear()
        model(x)
    assert not by_onednn
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("shape", [(6, 5), (2, 3, 5)])
@pytest.mark.parametrize("sizes", [(7, 3), (3, 7)])
def test_a_model_in_the_context_has_the_gradients_of_pytorch(
    sizes: tuple[int, int], shape: tuple[int, ...], biased: bool
) -> None:
    model = nn.Sequential(nn.Linear(5, sizes[0], biased), nn.GELU(), nn.Linear(sizes[0], sizes[1], biased))
    model[0].weight.requires_grad_(not biased)  # a frozen layer gets none
    x = torch.randn(shape, requires_grad=True)
    found = []
    for context in (contextlib.nullcontext(), products.fast_models()):
        model.zero_grad()
        x.grad = None
        with context:
            output = model(x)
        torch.autograd.backward(output.square().sum())
        found.append([output, x.grad, *(one.grad for one in model.parameters())])
    assert sum(one is not None for one in found[0]) == (5 if biased else 4)
    torch.testing.assert_close(found[1], found[0])
