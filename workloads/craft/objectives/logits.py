"""Logits: match the predictions of the heads of teacher and student (Hinton et al., arXiv 1503.02531).

Shape letters: B rows, L tokens, C classes or vocabulary.
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from workloads.craft.objectives.head_output import HeadOutput
from workloads.craft.objectives.term import Counts, LearnedMap, LearnedMaps, real_tokens
from workloads.craft.signals import Batch, Signals

LogitsForm = Literal["kl", "soft-cross-entropy", "binary-kl", "mse"]


@dataclass(frozen=True)
class Logits(HeadOutput):
    """A loss between logits, its mean over rows (``[B, C]``) or over real tokens (``[B, L, C]``).

    With ``p = softmax(t / T)`` and ``q = softmax(s / T)``, T the temperature, but the sigmoid for ``binary-kl``:

    - ``kl``: ``T^2 sum_c p (log p - log q)``; the factor keeps gradients comparable over temperatures.
    - ``soft-cross-entropy``: ``-T^2 sum_c p log q``, with the same gradients.
    - ``binary-kl``: ``T^2 sum_c p (log p - log q) + (1 - p) (log (1 - p) - log (1 - q))``, for independent labels.
    - ``mse``: the mean over classes of ``(s - t)^2``; the temperature has no effect.

    Attributes:
        form: One of the four losses.
        temperature: T.
        weight: Weight of the term.
        pools: Whether each row must hold one document.
    """

    form: LogitsForm = "kl"
    temperature: float = 1.0
    weight: float = 1.0
    group: int = 1
    maps: tuple[LearnedMap, ...] = ()
    pools: bool = False

    def loss_rows(self, student: Signals, targets: Tensor, batch: Batch, counts: Counts, maps: LearnedMaps) -> Tensor:
        """Return each row's share of the loss, ``[B]``, without the weight."""
        assert student.head is not None and student.head.shape == targets.shape
        losses = self._compare(student.head.float(), targets)
        return losses / counts.rows if losses.ndim == 1 else real_tokens(losses, batch.mask_BL) / counts.tokens

    def _compare(self, given: Tensor, targets: Tensor) -> Tensor:
        if self.form == "mse":
            return (given - targets).square().mean(-1)
        if self.form == "binary-kl":
            scale = 1 / self.temperature  # 1 - sigmoid(x) is sigmoid(-x)
            sides = (_kl_of_sigmoids(targets * one, given * one) for one in (scale, -scale))
            return self.temperature**2 * functools.reduce(operator.add, sides).sum(-1)
        log_p, log_q = (torch.log_softmax(x / self.temperature, dim=-1) for x in (targets, given))
        less = log_p if self.form == "kl" else 0
        return self.temperature**2 * (log_p.exp() * (less - log_q)).sum(-1)


def _kl_of_sigmoids(targets: Tensor, given: Tensor) -> Tensor:
    """Return ``p (log p - log q)`` with the sigmoids of the two."""
    log_p, log_q = F.logsigmoid(targets), F.logsigmoid(given)
    return log_p.exp() * (log_p - log_q)
