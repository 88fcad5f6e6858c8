"""Layers that run on the leading part of a shared weight, and the flat buffers that hold the weights.

With a plain slice, autograd would pad each gradient with zeros to the full size and add it up, once a subnet. For a
small subnet of a wide SuperLM that costs more than its matrix products. Here the backward pass adds to the leading
part of the preallocated ``.grad``, and returns no gradient of the weight to autograd.

Shape letters: B rows, L tokens, I inputs, O outputs, V vocabulary, H hidden size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from workloads.craft import products


class FlatParameters(nn.Module):
    """Named parameters as views into two flat tensors: those that weight decay applies to, and the rest.

    One optimiser update, one norm and one all-reduce then serve a whole SuperLM. Weight decay applies to matrices and
    tables only, not to vectors (biases and LayerNorm weights).

    Args:
        tensors: Initial values by name; copied.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        self.decay = nn.Parameter(_flat([t for t in tensors.values() if t.ndim > 1]))
        self.plain = nn.Parameter(_flat([t for t in tensors.values() if t.ndim <= 1]))
        self._views: dict[str, Tensor] = {}
        self._bind()

    def __getitem__(self, name: str) -> Tensor:
        return self._views[name]

    def __contains__(self, name: str) -> bool:
        return name in self._views

    @property
    def flats(self) -> tuple[nn.Parameter, nn.Parameter]:
        """The two flat tensors, the decaying one first."""
        return self.decay, self.plain

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Set gradients to zero in place, making the buffers on the first call.

        Args:
            set_to_none: Must be false: the views of the gradients would be lost.
        """
        assert not set_to_none
        if self.decay.grad is None or self.plain.grad is None:
            for flat in self.flats:
                flat.grad = torch.zeros_like(flat)
            self._bind()
        else:
            torch._foreach_zero_([self.decay.grad, self.plain.grad])

    def _apply(self, fn: Any, recurse: bool = True) -> FlatParameters:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._bind()
        return self

    def _bind(self) -> None:
        at = {True: 0, False: 0}
        for name, shape in self.shapes.items():
            decays, size = len(shape) > 1, math.prod(shape)
            flat = self.decay if decays else self.plain
            start = at[decays]
            view = flat.detach()[start : start + size].view(shape).requires_grad_()
            if flat.grad is not None:
                view.grad = flat.grad[start : start + size].view(shape)
            self._views[name] = view
            at[decays] = start + size


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])


def linear(x_BLI: Tensor, weight_OI: Tensor, bias_O: Tensor, outputs: int) -> Tensor:
    """Apply the leading part of a shared linear layer, ``outputs`` rows and as many columns as ``x`` has inputs.

    The gradients of weight and bias are added to their ``.grad``, which must exist; so do those of the functions below.

    Returns:
        ``[B, L, outputs]``, in autocast's type if that is on.
    """
    (output,) = linears(x_BLI, [(weight_OI, bias_O)], outputs)
    return output


def linears(x_BLI: Tensor, layers: Sequence[tuple[Tensor, Tensor]], outputs: int) -> tuple[Tensor, ...]:
    """Apply the leading parts of several shared linear layers, each a weight and a bias, to one input.

    They are one product: the input is read once, and so are its gradients added up.

    Returns:
        By layer, ``[B, L, outputs]``; views of one tensor.
    """
    return _Linears.apply(x_BLI, outputs, *itertools.chain(*layers))  # type: ignore[no-any-return, no-untyped-call]


def layer_norm(x_BLH: Tensor, weight_H: Tensor, bias_H: Tensor, eps: float) -> Tensor:
    """Apply the leading part of a shared LayerNorm, as wide as ``x``; the result ``[B, L, H]`` is float32."""
    return _LayerNorm.apply(x_BLH, weight_H, bias_H, eps)  # type: ignore[no-any-return, no-untyped-call]


def embedding(ids: Tensor, table_VH: Tensor, hidden: int) -> Tensor:
    """Look up the first ``hidden`` columns of a shared table: ``[*ids.shape, hidden]``."""
    return _Embedding.apply(ids, table_VH, hidden)  # type: ignore[no-any-return, no-untyped-call]


def _grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None, "call zero_grad() before the backward"
    return parameter.grad


class _Linears(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, outputs: int, *parameters: Tensor) -> tuple[Tensor, ...]:
        weights, biases = parameters[::2], parameters[1::2]
        # One dense copy serves the product here and that of the backward pass.
        size = (outputs, x.shape[-1])
        parts = [weight[: size[0], : size[1]] for weight in weights]
        if any(part.shape != size for part in parts):
            raise RuntimeError(f"shape {tuple(weights[0].shape)} of a weight has no leading part {size}")
        part = torch.cat(parts) if len(parts) > 1 else parts[0].contiguous()
        offset = torch.cat([bias[:outputs] for bias in biases])
        if torch.is_autocast_enabled(x.device.type):  # cast here, so that the backward uses the same rounded values
            low = torch.get_autocast_dtype(x.device.type)
            x, part, offset = x.to(low), part.to(low), offset.to(low)
        ctx.save_for_backward(x, part)
        ctx.weights, ctx.biases, ctx.outputs = weights, biases, outputs
        return torch.split(products.linear(x, part, offset), outputs, dim=-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, part = ctx.saved_tensors
        grad = torch.cat(grads, dim=-1) if len(grads) > 1 else grads[0].contiguous()
        grad_2d, x_2d = grad.view(-1, grad.shape[-1]), x.reshape(-1, x.shape[-1])
        weight_grads = torch.split(products.outer(grad_2d, x_2d), ctx.outputs)
        bias_grads = torch.split(grad_2d.sum(0, dtype=torch.float32), ctx.outputs)
        for weight, bias, weight_grad, bias_grad in zip(ctx.weights, ctx.biases, weight_grads, bias_grads, strict=True):
            _grad(weight)[: ctx.outputs, : x.shape[-1]].add_(weight_grad)
            _grad(bias)[: ctx.outputs].add_(bias_grad)
        of_x = products.linear(grad, part.t()) if ctx.needs_input_grad[0] else None
        return (of_x, None, *(None for _ in ctx.weights + ctx.biases))


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        x = x.float()
        hidden = x.shape[-1]
        part, offset = weight[:hidden], bias[:hidden]
        out, mean, rstd = torch.native_layer_norm(x, [hidden], part, offset, eps)
        ctx.save_for_backward(x, mean, rstd, part, offset)
        ctx.weight, ctx.bias = weight, bias
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        x, mean, rstd, part, offset = ctx.saved_tensors
        hidden = part.shape[0]
        grad_x, grad_weight, grad_bias = torch.ops.aten.native_layer_norm_backward(
            grad.contiguous(), x, [hidden], mean, rstd, part, offset, [True, True, True]
        )
        _grad(ctx.weight)[:hidden].add_(grad_weight)
        _grad(ctx.bias)[:hidden].add_(grad_bias)
        return grad_x, None, None, None


class _Embedding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: Tensor, table: Tensor, hidden: int) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.table, ctx.hidden = table, hidden
        return F.embedding(ids, table[:, :hidden])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, None]:
        (ids,) = ctx.saved_tensors
        # Only the rows that occur are touched; a dense gradient would write the whole vocabulary.
        into = _grad(ctx.table)[:, : ctx.hidden]
        into.index_add_(0, ids.reshape(-1), grad.reshape(-1, ctx.hidden).to(into.dtype))
        return None, None, None
