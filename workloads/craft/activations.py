"""Activation functions by their names in transformers."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def activation_of(name: str) -> Callable[[Tensor], Tensor]:
    """Return the activation of a name in ``transformers.activations.ACT2FN``.

    The usual one is PyTorch's own, so that workers without a teacher need not import transformers, which takes longer
    than the import of PyTorch.
    """
    if name == "gelu":
        return F.gelu
    from transformers.activations import ACT2FN

    found: Callable[[Tensor], Tensor] = ACT2FN[name]
    return found
