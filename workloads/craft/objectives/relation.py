"""Self-attention relation distillation: match how tokens relate to one another, not the vectors themselves.

A relation is ``R = X X^T / sqrt(d)`` for each relation head. X are the queries, keys or values of one layer with all
heads side by side, split again into relation heads. Sources: MiniLMv2 (arXiv 2012.15828) for ``kl``, AutoDistil
(arXiv 2201.12507, section 3.2) for ``softmax-mse``, its released code for ``raw-mse``.

Shape letters: B rows, L tokens, A attention width, R relation heads, D width of a relation head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from workloads.craft.objectives.divergence import cross_entropy, head_runs, mask_keys
from workloads.craft.objectives.term import Counts, LearnedMap, LearnedMaps
from workloads.craft.signals import Batch, Signals, Wants
from workloads.spec.request import RelationForm

RELATIONS: tuple[Literal["queries", "keys", "values"], ...] = ("queries", "keys", "values")


@dataclass(frozen=True)
class RelationTarget:
    """The teacher's side of one relation, ``[B, R, L, L]``.

    Attributes:
        relation: Raw scaled scores for ``raw-mse``, row-wise probabilities otherwise.
        entropy_part: For ``kl`` the sum of ``p log p`` over heads and real query rows, else zeros, ``[B]``.
    """

    relation: Tensor
    entropy_part: Tensor


@dataclass(frozen=True)
class RelationLoss:
    """The loss of one relation (queries, keys or values).

    Attributes:
        form: ``kl``, ``softmax-mse`` or ``raw-mse``.
        heads: Relation heads R.
        remainder: ``spread`` makes the first ``A mod R`` heads one wider; ``drop`` leaves the rest out.
    """

    form: RelationForm
    heads: int
    remainder: str

    def target(self, x_BLA: Tensor, mask_BL: Tensor | None) -> RelationTarget:
        """Prepare the teacher's side once for all subnets of a batch.

        Args:
            x_BLA: The teacher's queries, keys or values.
            mask_BL: True at real tokens; None if all are.
        """
        scores = relation_scores(x_BLA.float(), self.heads, self.remainder)
        if self.form == "raw-mse":
            return RelationTarget(scores, scores.new_zeros(len(scores)))
        logs = _log_softmax(scores, mask_BL)
        probabilities = logs.exp()
        entropy = scores.new_zeros(len(scores))
        if self.form == "kl":
            products = probabilities * logs
            entropy = (products if mask_BL is None else products * mask_BL[:, None, :, None]).sum((1, 2, 3))
        return RelationTarget(probabilities, entropy)

    def __call__(self, x_BLA: Tensor, target: RelationTarget, mask_BL: Tensor | None, counts: Counts) -> Tensor:
        """Compare a student with the teacher; padded query rows and padded key columns do not count.

        Args:
            x_BLA: The student's queries, keys or values; its width may differ from the teacher's.
            target: The result of :meth:`target` for the same rows.
            mask_BL: True at real tokens; None if all are.
            counts: Divisors; with those of the whole batch, the losses of its parts add up to its mean.

        Returns:
            ``[B]``, each batch row's share of the mean over heads and real query rows of the divergence (``kl``), or
            over heads and real pairs of the squared difference.
        """
        x_BLA = x_BLA.float()
        if self.form == "kl":
            runs = tuple(head_runs(x_BLA.shape[-1], self.heads, self.remainder))
            crossed = cross_entropy(x_BLA, target.relation, mask_BL, runs)
            return (target.entropy_part + crossed) / (self.heads * counts.tokens)
        scores = relation_scores(x_BLA, self.heads, self.remainder)
        student = scores if self.form == "raw-mse" else _log_softmax(scores, mask_BL).exp()
        squares = (student - target.relation).square()
        if mask_BL is not None:
            squares = squares * (mask_BL[:, None, :, None] & mask_BL[:, None, None, :])
        return squares.sum((1, 2, 3)) / (self.heads * counts.pairs)


@dataclass(frozen=True)
class Relation:
    """One relation of a layer of the teacher, compared with that of the student's last layer.

    Attributes:
        of: The projections that the relation is made of.
        loss: The loss between two relations.
        teacher_layer: Number of the teacher's layer, from 1.
        weight: Weight of the term.
    """

    of: Literal["queries", "keys", "values"]
    loss: RelationLoss
    teacher_layer: int
    weight: float = 1.0
    group: int = 1
    maps: tuple[LearnedMap, ...] = ()
    pools: bool = False

    def teacher_wants(self) -> Wants:
        """Return the queries, keys and values of the teacher's layer."""
        return Wants(relations=frozenset([self.teacher_layer]))

    def student_wants(self, layers: int) -> Wants:
        """Return the queries, keys and values of the student's last layer."""
        return Wants(relations=frozenset([layers]))

    def targets(self, teacher: Signals, batch: Batch, head_order: Tensor | None) -> RelationTarget:
        """Return the teacher's relation, with its dimensions in ``head_order`` if that is not None."""
        x_BLA = getattr(teacher, self.of)[self.teacher_layer]
        if head_order is not None:
            assert self.teacher_layer == teacher.layers, "see Objective.check_order"
            x_BLA = x_BLA[..., head_order]
        return self.loss.target(x_BLA, batch.mask_BL)

    def loss_rows(
        self, student: Signals, targets: RelationTarget, batch: Batch, counts: Counts, maps: LearnedMaps
    ) -> Tensor:
        """Return each row's share of the loss, ``[B]``, without the weight."""
        return self.loss(getattr(student, self.of)[student.layers], targets, batch.mask_BL, counts)


def relation_scores(x_BLA: Tensor, heads: int, remainder: str = "spread") -> Tensor:
    """Compute the scaled products of all token pairs in each relation head: ``[B, R, L, L]``.

    Each head is scaled by the root of its own width. A width that ``heads`` does not divide is spread over uneven
    heads, or with ``remainder="drop"`` its last dimensions are left out, as in AutoDistil's released code.
    """
    parts = []
    for run in head_runs(x_BLA.shape[-1], heads, remainder):
        part_BRLD = run.of(x_BLA)
        parts.append((part_BRLD * (1 / math.sqrt(run.width))) @ part_BRLD.transpose(-1, -2))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _log_softmax(scores_BRLL: Tensor, mask_BL: Tensor | None) -> Tensor:
    return torch.log_softmax(mask_keys(scores_BRLL, mask_BL), dim=-1)
