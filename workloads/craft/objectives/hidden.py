"""Hidden states of many layers, as KD-NAS distils them (arXiv 2303.09639), with its pairs of layers.

Shape letters: B rows, L tokens, H hidden size of the student, T of the teacher.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from workloads.craft.objectives.term import Counts, LearnedMap, LearnedMaps, real_tokens
from workloads.craft.signals import Batch, Signals, Wants

HIDDEN_PROJECTION = LearnedMap("hidden_projection", copies=2)


def uniform_and_last(student_layers: int, teacher_layers: int) -> dict[int, tuple[int, int]]:
    """Pair each layer ``i`` of a student with two of its teacher: ``floor(i n / m)`` and ``n - m + i``.

    ``m`` and ``n`` are the numbers of layers of student and teacher, and ``i`` runs from 1 to ``m``. The student's last
    layer is paired with the teacher's last twice.
    """
    assert 1 <= student_layers <= teacher_layers, (student_layers, teacher_layers)
    last = teacher_layers - student_layers
    return {i: (i * teacher_layers // student_layers, last + i) for i in range(1, student_layers + 1)}


@dataclass(frozen=True)
class HiddenStates:
    """The squared error of hidden states, through one map ``W`` that all layers share.

    The loss is the mean over the student's layers ``i``, real tokens and dimensions of
    ``(W s_i - [t_a(i); t_b(i)])^2``, where ``W`` maps H to 2 T and ``a(i), b(i)`` are the pairs of
    :func:`uniform_and_last`.

    Attributes:
        teacher_layers: Number of layers of the teacher.
        depths: Numbers of layers that students may have.
        weight: Weight of the term.
    """

    teacher_layers: int
    depths: tuple[int, ...]
    weight: float = 1.0
    group: int = 1
    maps: tuple[LearnedMap, ...] = (HIDDEN_PROJECTION,)
    pools: bool = False

    def teacher_wants(self) -> Wants:
        """Return the hidden states of the layers that a student of any of the depths is paired with."""
        pairs = [uniform_and_last(depth, self.teacher_layers) for depth in self.depths]
        return Wants(hidden=frozenset(layer for some in pairs for pair in some.values() for layer in pair))

    def student_wants(self, layers: int) -> Wants:
        """Return the outputs of all layers."""
        return Wants(hidden=frozenset(range(1, layers + 1)))

    def targets(self, teacher: Signals, batch: Batch, head_order: Tensor | None) -> dict[int, Tensor]:
        """Return the teacher's hidden states ``[B, L, T]`` by layer."""
        return {layer: x_BLT.float() for layer, x_BLT in teacher.hidden.items()}

    def loss_rows(
        self, student: Signals, targets: dict[int, Tensor], batch: Batch, counts: Counts, maps: LearnedMaps
    ) -> Tensor:
        """Return each row's share of the loss, ``[B]``, without the weight."""
        pairs = uniform_and_last(student.layers, self.teacher_layers)
        losses = []
        for layer, (first, second) in pairs.items():
            given_BLT = maps(HIDDEN_PROJECTION.name, student.hidden[layer]).float()
            squares_BL = (given_BLT - torch.cat([targets[first], targets[second]], dim=-1)).square().mean(-1)
            losses.append(real_tokens(squares_BL, batch.mask_BL))
        return torch.stack(losses).sum(0) / (counts.tokens * len(pairs))
