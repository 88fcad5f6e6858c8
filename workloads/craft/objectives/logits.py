"""Logits: match the predictions of the heads of teacher and student (Hinton et al., arXiv 1503.02531).

Shape letters: B rows, L tokens, C classes or vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from workloads.craft.objectives.term import Counts, LearnedMap, LearnedMaps, real_tokens
from workloads.craft.signals import Batch, Signals, Wants


@dataclass(frozen=True)
class Logits:
    """A loss between logits, its mean over rows (``[B, C]``) or over real tokens (``[B, L, C]``).

    With ``p = softmax(t / T)`` and ``q = softmax(s / T)``, T the temperature:

    - ``kl``: ``T^2 sum_c p (log p - log q)``; the factor keeps gradients comparable over temperatures.
    - ``soft-cross-entropy``: ``-T^2 sum_c p log q``, with the same gradients.
    - ``mse``: the mean over classes of ``(s - t)^2``; the temperature has no effect.

    Attributes:
        form: One of the three losses.
        temperature: T.
        weight: Weight of the term.
    """

    form: Literal["kl", "soft-cross-entropy", "mse"] = "kl"
    temperature: float = 1.0
    weight: float = 1.0
    group: int = 1
    maps: tuple[LearnedMap, ...] = ()
    pools: bool = False

    def teacher_wants(self) -> Wants:
        """Return the logits of the head."""
        return Wants(logits=True)

    def student_wants(self, layers: int) -> Wants:
        """Return the logits of the head."""
        return Wants(logits=True)

    def targets(self, teacher: Signals, batch: Batch, head_order: Tensor | None) -> Tensor:
        """Return the teacher's logits, ``[B, C]`` or ``[B, L, C]``."""
        assert teacher.logits is not None
        return teacher.logits.float()

    def loss_rows(self, student: Signals, targets: Tensor, batch: Batch, counts: Counts, maps: LearnedMaps) -> Tensor:
        """Return each row's share of the loss, ``[B]``, without the weight."""
        assert student.logits is not None and student.logits.shape == targets.shape
        losses = self._compare(student.logits.float(), targets)
        return losses / counts.rows if losses.ndim == 1 else real_tokens(losses, batch.mask_BL) / counts.tokens

    def _compare(self, given: Tensor, targets: Tensor) -> Tensor:
        if self.form == "mse":
            return (given - targets).square().mean(-1)
        log_p, log_q = (torch.log_softmax(x / self.temperature, dim=-1) for x in (targets, given))
        less = log_p if self.form == "kl" else 0
        return self.temperature**2 * (log_p.exp() * (less - log_q)).sum(-1)
