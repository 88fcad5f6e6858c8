"""Heads in PyTorch: the logits or the vector that a model's last hidden states give.

One function serves teachers, subnets of a SuperLM and exported files; they differ in how they apply a linear map.

Shape letters: B rows, L tokens, H hidden size, C labels, V dimensions of a vector.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from workloads.shapes.heads import IDENTITY, Head, LogitsHead, Pooling, VectorHead, dense_name

Linear = Callable[[str, Tensor], Tensor]
"""Function that applies the linear map of a part's name to ``[..., inputs]``."""

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    IDENTITY: lambda x: x,
    "torch.nn.modules.activation.Tanh": torch.tanh,
    "torch.nn.modules.activation.ReLU": F.relu,
    "torch.nn.modules.activation.GELU": F.gelu,
    "torch.nn.modules.activation.SiLU": F.silu,
    "torch.nn.modules.activation.Sigmoid": torch.sigmoid,
}


@functools.singledispatch
def run_head(head: Head, x_BLH: Tensor, mask_BL: Tensor | None, linear: Linear) -> Tensor:
    """Compute a head's output.

    Args:
        head: The head.
        x_BLH: The last layer's output.
        mask_BL: True (or 1) at real tokens; None if all are.
        linear: Applies the maps of the head's parts.

    Returns:
        Logits, ``[B, C]`` or ``[B, L, C]``, or vectors ``[B, V]``.
    """
    raise NotImplementedError(type(head))


@run_head.register
def _logits(head: LogitsHead, x_BLH: Tensor, mask_BL: Tensor | None, linear: Linear) -> Tensor:
    if head.every_token:
        return linear("classifier", x_BLH)
    return linear("classifier", torch.tanh(linear("pooler", x_BLH[:, 0])))


@run_head.register
def _vector(head: VectorHead, x_BLH: Tensor, mask_BL: Tensor | None, linear: Linear) -> Tensor:
    x_BV = pool(head.pooling, x_BLH, mask_BL)
    for index, dense in enumerate(head.dense):
        x_BV = _ACTIVATIONS[dense.activation](linear(dense_name(index), x_BV))
    return F.normalize(x_BV.float(), dim=-1) if head.normalize else x_BV


def pool(pooling: Pooling, x_BLH: Tensor, mask_BL: Tensor | None) -> Tensor:
    """Make one vector of each row's hidden states, ``[B, H]``, as sentence-transformers does."""
    if pooling == "cls":
        return x_BLH[:, 0]
    if mask_BL is None:
        mask_BL = torch.ones_like(x_BLH[..., 0], dtype=torch.bool)
    if pooling == "max":
        return x_BLH.masked_fill(~mask_BL.bool()[..., None], torch.finfo(x_BLH.dtype).min).amax(1)
    if pooling == "lasttoken":
        last_B = mask_BL.long().cumsum(1).argmax(1)  # the first place of the largest sum: the last real token
        return torch.take_along_dim(x_BLH, last_B[:, None, None], dim=1)[:, 0]
    weights_BL = mask_BL.to(x_BLH.dtype)
    if pooling == "weightedmean":
        weights_BL = weights_BL * torch.arange(1, x_BLH.shape[1] + 1, device=x_BLH.device)
    sums_BH = (x_BLH * weights_BL[..., None]).sum(1)
    counts_B1 = weights_BL.sum(1, keepdim=True).clamp(min=1e-9)
    return sums_BH / (counts_B1.sqrt() if pooling == "mean_sqrt_len_tokens" else counts_B1)
