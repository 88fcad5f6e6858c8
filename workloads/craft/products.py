"""Matrix products in float32 on CPUs by oneDNN, which PyTorch carries beside MKL.

PyTorch computes float32 products by MKL. On an AMD processor MKL uses half of the vector width, and oneDNN all of it:
on an EPYC of the fifth generation one core computes 245 against 114 GFLOP/s. Both are exact float32 products, which
differ by the order of the sums.

Shape letters: M tokens of all rows, I inputs, O outputs.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

HAS_ONEDNN = (
    platform.machine() in ("x86_64", "AMD64")
    and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)
"""Whether products are by oneDNN: the processor is one where that was measured, and this PyTorch has the operation."""


def linear(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """Compute ``x W' + b`` as ``F.linear`` does, without a gradient.

    Args:
        x: ``[..., I]``.
        weight_OI: The weight, or a slice or a transposed view of one.
        bias_O: The bias.

    Returns:
        ``[..., O]``.
    """
    assert not torch.is_grad_enabled(), "oneDNN's product has no gradient"
    if not _by_onednn(x, weight_OI):
        return F.linear(x, weight_OI, bias_O)
    # oneDNN is fast for dense matrices, transposed or not. For others it falls back to a loop that is a thousand times
    # as slow.
    return torch.ops.mkldnn._linear_pointwise(_dense(x), _dense(weight_OI), bias_O, "none", [], "")  # type: ignore[no-any-return]


def outer(grad_MO: Tensor, x_MI: Tensor) -> Tensor:
    """Compute ``grad' x``, the gradient of a linear layer's weight, ``[O, I]``."""
    if not _by_onednn(x_MI, grad_MO):
        return grad_MO.t() @ x_MI
    # oneDNN copies a first factor that is transposed: let it be the smaller one.
    wide = grad_MO.shape[1] > x_MI.shape[1]
    return linear(x_MI.t(), grad_MO.t()).t() if wide else linear(grad_MO.t(), x_MI.t())


@contextlib.contextmanager
def fast_models() -> Iterator[None]:
    """Compute the linear layers of any model by :func:`linear`, with gradients where they are enabled.

    The forward of a stock class calls ``F.linear``; the backward pass may run after the context.
    """
    with _LinearLayers():
        yield


class _LinearLayers(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.linear:
            return func(*args, **(kwargs or {}))
        return _layer(*args, **(kwargs or {}))


def _layer(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a linear layer; the arguments are named as those of ``F.linear``."""
    if not _by_onednn(input, weight):
        return F.linear(input, weight, bias)
    if not torch.is_grad_enabled():
        return linear(input, weight, bias)
    return _Linear.apply(input, weight, bias)  # type: ignore[no-any-return, no-untyped-call]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        grad_2d = grad.reshape(-1, grad.shape[-1])
        return (
            linear(grad, weight.t()) if of_x else None,
            outer(grad_2d, x.reshape(-1, x.shape[-1])) if of_weight else None,
            grad_2d.sum(0) if of_bias else None,
        )


def _by_onednn(x: Tensor, weight_OI: Tensor) -> bool:
    exact = x.dtype == weight_OI.dtype == torch.float32 and not torch.is_autocast_enabled(x.device.type)
    empty = x.numel() == 0 or weight_OI.numel() == 0
    return exact and not empty and x.device.type == "cpu" and HAS_ONEDNN


def _dense(x: Tensor) -> Tensor:
    return x if x.is_contiguous() or (x.ndim == 2 and x.t().is_contiguous()) else x.contiguous()
