"""Vectors of texts: match the teacher's vector of each text, and how near the texts of a group are to one another.

A student's vector is in the teacher's space, by the projection that its head holds. Distances alone leave little of the
differences between near texts, which rank the answers of a search; so texts are compared with one another too.

Shape letters: B rows, V dimensions of a vector, G groups, R rows of a group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from workloads.craft.objectives.head_output import HeadOutput
from workloads.craft.objectives.term import Counts, LearnedMap, LearnedMaps
from workloads.craft.signals import Batch, Signals

VECTOR_PROJECTION = LearnedMap("vector_projection")


@dataclass(frozen=True)
class VectorDistance(HeadOutput):
    """The distance of a text's vector ``s`` to its teacher's ``t``, its mean over rows.

    It is ``1 - cos(s, t)``. Where vectors have lengths of their own (``normalized`` is false) it is
    ``|s - t|^2 / (2 |t|^2)``, which is the same for vectors of one length.
    Smaller vectors are compared through a learned map.
    """

    normalized: bool = True
    weight: float = 1.0
    group: int = 1
    maps: tuple[LearnedMap, ...] = ()
    pools: bool = True

    def loss_rows(self, student: Signals, targets: Tensor, batch: Batch, counts: Counts, maps: LearnedMaps) -> Tensor:
        """Return each row's share of the loss, ``[B]``, without the weight."""
        assert student.head is not None
        given_BV = student.head
        for one in self.maps:
            given_BV = maps(one.name, given_BV)
        given_BV = given_BV.float()
        if self.normalized:
            return (1 - F.cosine_similarity(given_BV, targets, dim=-1)) / counts.rows
        squares_B = (given_BV - targets).square().sum(-1) / targets.square().sum(-1).clamp(min=1e-12)
        return squares_B / (2 * counts.rows)


@dataclass(frozen=True)
class Similarities(HeadOutput):
    """The similarities of each text to the other texts of its group, compared with the teacher's.

    With cosines ``c`` and temperature T, ``p_i = softmax_j(c(t_i, t_j) / T)`` over the other rows j of the group, and
    ``q_i`` of the student likewise, the loss is the mean over rows of ``KL(p_i, q_i)``.

    Attributes:
        temperature: T.
        group: Rows of a group; the last group of a batch may have fewer.
    """

    temperature: float = 0.05
    group: int = 32
    weight: float = 1.0
    maps: tuple[LearnedMap, ...] = ()
    pools: bool = True

    def loss_rows(self, student: Signals, targets: Tensor, batch: Batch, counts: Counts, maps: LearnedMaps) -> Tensor:
        """Return each row's share of the loss, ``[B]``, without the weight."""
        assert student.head is not None
        pairs = zip(self._log_softmaxes(targets), self._log_softmaxes(student.head.float()), strict=True)
        rows = [(log_p.exp() * (log_p - log_q)).sum(-1).flatten() for log_p, log_q in pairs]
        return torch.cat(rows) / counts.rows

    def _log_softmaxes(self, x_BV: Tensor) -> Iterator[Tensor]:
        """Yield the logarithms ``[G, R, R]`` of whole groups, then those of the last, smaller one."""
        x_BV = F.normalize(x_BV, dim=-1)
        whole = len(x_BV) // self.group * self.group
        for part, size in ((x_BV[:whole], self.group), (x_BV[whole:], len(x_BV) - whole)):
            if size and len(part):
                x_GRV = part.view(-1, size, part.shape[-1])
                scores_GRR = x_GRV @ x_GRV.transpose(-1, -2) / self.temperature
                # Finite, so that a probability of 0 times its logarithm stays 0; a text alone has no loss.
                alone = torch.eye(size, dtype=torch.bool, device=part.device)
                yield torch.log_softmax(scores_GRR.masked_fill(alone, torch.finfo(scores_GRR.dtype).min / 2), dim=-1)
