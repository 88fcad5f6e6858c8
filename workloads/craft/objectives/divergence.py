"""The cross-entropy of two relations, with its gradient written out.

Of the four tensors ``[B, R, L, L]`` that autograd would make and keep for the backward pass, only the student's
logarithms are kept, and their buffer then holds the gradient. Each dimension of a relation occurs on both sides of its
product, so one side's gradient is computed and the other's is its transpose.

Shape letters: B rows, L tokens, A attention width, R relation heads, D width of a relation head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_LANES = 8


@dataclass(frozen=True)
class HeadRun:
    """Neighbouring relation heads of one width.

    Attributes:
        start: The first dimension.
        heads: Number of heads.
        width: Dimensions of a head.
    """

    start: int
    heads: int
    width: int

    def of(self, x_BLA: Tensor) -> Tensor:
        """Return a view of the heads' dimensions, ``[B, heads, L, width]``."""
        part = x_BLA[..., self.start : self.start + self.heads * self.width]
        return part.view(*part.shape[:-1], self.heads, self.width).transpose(1, 2)


def head_runs(width: int, heads: int, remainder: str) -> Iterator[HeadRun]:
    """Split an attention width into relation heads.

    A width that ``heads`` does not divide is spread over uneven heads, the wider ones first, or with
    ``remainder="drop"`` its last dimensions are left out.
    """
    assert width >= heads, (width, heads)
    narrow, wider = divmod(width, heads)
    if remainder == "drop":
        wider = 0
    if wider:
        yield HeadRun(0, wider, narrow + 1)
    yield HeadRun(wider * (narrow + 1), heads - wider, narrow)


def mask_keys(scores_BRLL: Tensor, mask_BL: Tensor | None) -> Tensor:
    """Return scores whose softmax is 0 at padded keys."""
    if mask_BL is None:
        return scores_BRLL
    # Finite, so that a probability of 0 times its logarithm stays 0.
    return scores_BRLL.masked_fill(~mask_BL[:, None, None, :], torch.finfo(scores_BRLL.dtype).min / 2)


def cross_entropy(
    x_BLA: Tensor, probabilities_BRLL: Tensor, mask_BL: Tensor | None, runs: tuple[HeadRun, ...]
) -> Tensor:
    """Compute ``- sum p log q`` over heads, real query rows and keys.

    Args:
        x_BLA: The student's queries, keys or values, float32; ``q`` is the row-wise softmax of their relation.
        probabilities_BRLL: ``p``, the teacher's.
        mask_BL: True at real tokens; None if all are.
        runs: The relation heads.

    Returns:
        ``[B]``.
    """
    return _CrossEntropy.apply(x_BLA, probabilities_BRLL, mask_BL, runs)  # type: ignore[no-any-return, no-untyped-call]


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, probabilities: Tensor, mask: Tensor | None, runs: tuple[HeadRun, ...]) -> Tensor:
        # Heads are filled up with zeros to one even width, which leaves the products as they are. Products of a width
        # that is no multiple of the vector's take up to twice as long.
        (rows, length, _), heads = x.shape, sum(run.heads for run in runs)
        y_BRLD = x.new_zeros(rows, heads, length, -(-runs[0].width // _LANES) * _LANES)
        for run, part in zip(runs, _parts(y_BRLD, runs), strict=True):
            torch.mul(run.of(x), run.width**-0.25, out=part)
        scores_BRLL = y_BRLD @ y_BRLD.transpose(-1, -2)
        logs_BRLL = torch.log_softmax(mask_keys(scores_BRLL, mask), dim=-1)
        ctx.save_for_backward(y_BRLD, logs_BRLL, probabilities, mask)
        ctx.runs, ctx.width = runs, x.shape[-1]
        products = torch.mul(probabilities, logs_BRLL, out=scores_BRLL)
        if mask is not None:
            products *= mask[:, None, :, None]
        return -products.sum((1, 2, 3))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_B: Tensor) -> tuple[Tensor, None, None, None]:
        y_BRLD, logs_BRLL, probabilities, mask = ctx.saved_tensors
        # ``p - q sum p``, the negative gradient, in one pass.
        scores_grad = torch.ops.aten._log_softmax_backward_data(probabilities, logs_BRLL, -1, logs_BRLL.dtype)
        if mask is not None:
            scores_grad *= mask[:, None, :, None]
        grad_3d, y_3d = scores_grad.flatten(0, 1), y_BRLD.flatten(0, 1)
        y_grad = torch.bmm(grad_3d, y_3d).baddbmm_(grad_3d.transpose(1, 2), y_3d).view_as(y_BRLD)
        y_grad *= -grad_B[:, None, None, None]
        x_grad = y_grad.new_zeros(len(y_grad), y_grad.shape[2], ctx.width)
        for run, part in zip(ctx.runs, _parts(y_grad, ctx.runs), strict=True):
            run.of(x_grad).copy_(part).mul_(run.width**-0.25)
        return x_grad, None, None, None


def _parts(y_BRLD: Tensor, runs: tuple[HeadRun, ...]) -> Iterator[Tensor]:
    """Yield the part of a tensor of all heads that each run fills, ``[B, heads, L, width]``."""
    start = 0
    for run in runs:
        yield y_BRLD[:, start : start + run.heads, :, : run.width]
        start += run.heads
