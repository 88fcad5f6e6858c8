"""Output terms: match the teacher's output through a learned map to its width, for embedding models.

Relations of the last layer leave its output projection and feed-forward network untrained. So a student whose output
is used needs one of these terms too.

Shape letters: B rows, L tokens, H hidden size of the student, T of the teacher.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from workloads.craft.objectives.term import Counts, LearnedMap, LearnedMaps, real_tokens
from workloads.craft.signals import Batch, Signals, Wants

PROJECTION = LearnedMap("projection")


def pool(output_BLH: Tensor, mask_BL: Tensor | None) -> Tensor:
    """Compute the mean over the real tokens of each row: ``[B, H]``."""
    if mask_BL is None:
        return output_BLH.mean(1)
    weights = mask_BL[..., None].to(output_BLH.dtype)
    return (output_BLH * weights).sum(1) / weights.sum(1).clamp(min=1)


@dataclass(frozen=True)
class _Output:
    weight: float = 1.0
    group: int = 1
    maps: tuple[LearnedMap, ...] = (PROJECTION,)

    def teacher_wants(self) -> Wants:
        """Return the output of the last layer."""
        return Wants(output=True)

    def student_wants(self, layers: int) -> Wants:
        """Return the output of the last layer."""
        return Wants(output=True)


@dataclass(frozen=True)
class PooledOutput(_Output):
    """The cosine distance of pooled outputs: the mean over rows of ``1 - cos(map(pool(s)), pool(t))``.

    ``pool`` is the mean over real tokens, as in Sentence-BERT (arXiv 1908.10084, section 3).
    """

    pools: bool = True

    def targets(self, teacher: Signals, batch: Batch, head_order: Tensor | None) -> Tensor:
        """Return the teacher's pooled output ``[B, T]``."""
        assert teacher.output_BLH is not None
        return pool(teacher.output_BLH.float(), batch.mask_BL)

    def loss_rows(self, student: Signals, targets: Tensor, batch: Batch, counts: Counts, maps: LearnedMaps) -> Tensor:
        """Return each row's share of the loss, ``[B]``, without the weight."""
        assert student.output_BLH is not None
        given_BT = maps(PROJECTION.name, pool(student.output_BLH, batch.mask_BL)).float()
        return (1 - F.cosine_similarity(given_BT, targets, dim=-1)) / counts.rows


@dataclass(frozen=True)
class TokenOutput(_Output):
    """The squared error of outputs: the mean over real tokens and dimensions of ``(map(s) - t)^2``."""

    pools: bool = False

    def targets(self, teacher: Signals, batch: Batch, head_order: Tensor | None) -> Tensor:
        """Return the teacher's output ``[B, L, T]``."""
        assert teacher.output_BLH is not None
        return teacher.output_BLH.float()

    def loss_rows(self, student: Signals, targets: Tensor, batch: Batch, counts: Counts, maps: LearnedMaps) -> Tensor:
        """Return each row's share of the loss, ``[B]``, without the weight."""
        assert student.output_BLH is not None
        squares_BL = (maps(PROJECTION.name, student.output_BLH).float() - targets).square().mean(-1)
        return real_tokens(squares_BL, batch.mask_BL) / counts.tokens
