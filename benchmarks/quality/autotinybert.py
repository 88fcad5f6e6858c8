"""AutoTinyBERT's objective (arXiv 2107.13686), as far as the bench takes it, for students that are distilled alone.

Taken: the mean squared error of hidden states, the embeddings' output included, through one learned map that all
layers share; the mean squared error of attention scores ``Q K^T / sqrt(d)`` before the softmax; both of equal weight;
layers paired uniformly, student layer ``i`` of ``m`` with teacher layer ``floor(i n / m)``.

Different: attention is compared in the teacher's number of relation heads (queries and keys of a layer are split anew),
since the students' heads are fewer. Not taken: the one-shot search of the paper, its further training of the chosen
student, and any prediction layer.

Shape letters: B rows, L tokens, A attention width, H hidden size of the student, T of the teacher, R relation heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workloads.craft.importance import Order
from workloads.craft.objectives.objective import Objective
from workloads.craft.objectives.output import PROJECTION
from workloads.craft.objectives.term import Counts, LearnedMap, LearnedMaps, real_tokens
from workloads.craft.signals import Batch, Signals, Wants
from workloads.shapes.architecture import TeacherShape


def uniform_pairs(student_layers: int, teacher_layers: int) -> dict[int, int]:
    """Pair each layer of a student, from 1, with a layer of its teacher."""
    return {i: i * teacher_layers // student_layers for i in range(1, student_layers + 1)}


def objective_of(shape: TeacherShape, layers: int, order: Order) -> Objective:
    """Build the objective for students of so many layers, started from weights in this order."""
    pairs = uniform_pairs(layers, shape.layers)
    orders = tuple(order.width_order(index) for index in range(shape.layers))
    return Objective((UniformHidden(pairs), UniformAttention(pairs, shape.last_heads, orders)))


@dataclass(frozen=True)
class UniformHidden:
    """The mean over paired layers, real tokens and dimensions of ``(W s_i - t_g(i))^2``; 0 is the embeddings' output.

    Attributes:
        pairs: Layer of the teacher by layer of the student.
    """

    pairs: dict[int, int]
    weight: float = 1.0
    group: int = 1
    maps: tuple[LearnedMap, ...] = (PROJECTION,)
    pools: bool = False

    def teacher_wants(self) -> Wants:
        """Return the paired layers' outputs."""
        return Wants(hidden=frozenset({0, *self.pairs.values()}))

    def student_wants(self, layers: int) -> Wants:
        """Return all layers' outputs."""
        return Wants(hidden=frozenset(range(layers + 1)))

    def targets(self, teacher: Signals, batch: Batch, head_order: Tensor | None) -> dict[int, Tensor]:
        """Return the teacher's hidden states ``[B, L, T]`` by layer."""
        return {layer: x_BLT.float() for layer, x_BLT in teacher.hidden.items()}

    def loss_rows(
        self, student: Signals, targets: dict[int, Tensor], batch: Batch, counts: Counts, maps: LearnedMaps
    ) -> Tensor:
        """Return each row's share, ``[B]``."""
        pairs = {0: 0, **self.pairs}
        losses = []
        for ours, theirs in pairs.items():
            squares_BL = (maps(PROJECTION.name, student.hidden[ours]).float() - targets[theirs]).square().mean(-1)
            losses.append(real_tokens(squares_BL, batch.mask_BL))
        return torch.stack(losses).sum(0) / (counts.tokens * len(pairs))


@dataclass(frozen=True, eq=False)
class UniformAttention:
    """The mean over paired layers, relation heads and real pairs of the squared difference of attention scores.

    Attributes:
        pairs: Layer of the teacher by layer of the student.
        heads: Relation heads R.
        orders: By layer of the teacher, the order of its attention width that the student's weights start in.
    """

    pairs: dict[int, int]
    heads: int
    orders: tuple[Tensor, ...]
    weight: float = 1.0
    group: int = 1
    maps: tuple[LearnedMap, ...] = ()
    pools: bool = False

    def teacher_wants(self) -> Wants:
        """Return the paired layers' projections."""
        return Wants(relations=frozenset(self.pairs.values()))

    def student_wants(self, layers: int) -> Wants:
        """Return all layers' projections."""
        return Wants(relations=frozenset(range(1, layers + 1)))

    def targets(self, teacher: Signals, batch: Batch, head_order: Tensor | None) -> dict[int, Tensor]:
        """Return the teacher's scores by layer."""
        found = {}
        for layer in set(self.pairs.values()):
            order = self.orders[layer - 1].to(teacher.queries[layer].device)
            queries, keys = teacher.queries[layer][..., order], teacher.keys[layer][..., order]
            found[layer] = attention_scores(queries, keys, self.heads)
        return found

    def loss_rows(self, student: Signals, targets: Any, batch: Batch, counts: Counts, maps: LearnedMaps) -> Tensor:
        """Return each row's share, ``[B]``."""
        losses = []
        for ours, theirs in self.pairs.items():
            given_BRLL = attention_scores(student.queries[ours], student.keys[ours], self.heads)
            squares_BRLL = (given_BRLL - targets[theirs]).square()
            if batch.mask_BL is not None:
                squares_BRLL = squares_BRLL * (batch.mask_BL[:, None, :, None] & batch.mask_BL[:, None, None, :])
            losses.append(squares_BRLL.sum((1, 2, 3)))
        return torch.stack(losses).sum(0) / (counts.pairs * self.heads * len(self.pairs))


def attention_scores(queries_BLA: Tensor, keys_BLA: Tensor, heads: int) -> Tensor:
    """Scaled products of queries and keys in each relation head, ``[B, R, L, L]``; widths may be uneven."""
    parts = zip(queries_BLA.float().tensor_split(heads, -1), keys_BLA.float().tensor_split(heads, -1), strict=True)
    return torch.stack([query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]) for query, key in parts], dim=1)
