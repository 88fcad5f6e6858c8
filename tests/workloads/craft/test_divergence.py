"""The cross-entropy of relations and its gradient, against autograd's of the plain form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from workloads.craft.objectives.divergence import cross_entropy, head_runs
from workloads.craft.objectives.relation import relation_scores

MASK = torch.tensor([[True] * 7, [True] * 4 + [False] * 3, [True] + [False] * 6])


def plain(x_BLA: Tensor, probabilities: Tensor, mask_BL: Tensor | None, heads: int, remainder: str) -> Tensor:
    scores = relation_scores(x_BLA, heads, remainder)
    if mask_BL is not None:
        scores = scores.masked_fill(~mask_BL[:, None, None, :], torch.finfo(scores.dtype).min / 2)
    products = probabilities * torch.log_softmax(scores, dim=-1)
    if mask_BL is not None:
        products = products * mask_BL[:, None, :, None]
    return -products.sum((1, 2, 3))


@pytest.mark.parametrize("mask_BL", [None, MASK], ids=["whole", "padded"])
@pytest.mark.parametrize("remainder", ["spread", "drop"])
@pytest.mark.parametrize(("width", "heads"), [(12, 4), (13, 4), (15, 4), (5, 1), (4, 4), (7, 6)])
def test_value_and_gradient_are_those_of_the_plain_form(
    width: int, heads: int, remainder: str, mask_BL: Tensor | None
) -> None:
    drawn = torch.Generator().manual_seed(width)
    x = (2 * torch.randn(3, 7, width, generator=drawn)).requires_grad_()
    same_x = x.detach().clone().requires_grad_()
    scores = torch.randn(3, heads, 7, 7, generator=drawn)
    if mask_BL is not None:
        scores = scores.masked_fill(~mask_BL[:, None, None, :], torch.finfo(scores.dtype).min / 2)
    probabilities = scores.softmax(-1)
    upstream = torch.rand(3, generator=drawn)

    got = cross_entropy(x, probabilities, mask_BL, tuple(head_runs(width, heads, remainder)))
    expected = plain(same_x, probabilities, mask_BL, heads, remainder)

    torch.testing.assert_close(got, expected)
    torch.autograd.backward(got, upstream)
    torch.autograd.backward(expected, upstream)
    torch.testing.assert_close(x.grad, same_x.grad)
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_what_padding_holds_changes_neither_value_nor_gradient() -> None:
    probabilities = torch.full((3, 2, 7, 7), 1 / 7)
    found = []
    for padding in (0.0, 1e4):
        x = torch.linspace(-1, 1, 3 * 7 * 6).view(3, 7, 6).masked_fill(~MASK[..., None], padding).requires_grad_()
        loss = cross_entropy(x, probabilities * MASK[:, None, None, :], MASK, tuple(head_runs(6, 2, "spread")))
        torch.autograd.backward(loss.sum())
        found.append((loss.detach(), x.grad))
    torch.testing.assert_close(found[0], found[1])
    assert found[0][1] is not None and not found[0][1][~MASK].any()


def test_uneven_heads_cover_the_width_and_a_dropped_remainder_is_left_out() -> None:
    assert [(run.start, run.heads, run.width) for run in head_runs(14, 4, "spread")] == [(0, 2, 4), (8, 2, 3)]
    assert [(run.start, run.heads, run.width) for run in head_runs(14, 4, "drop")] == [(0, 4, 3)]
