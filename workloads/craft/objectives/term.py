"""Terms: an objective is a weighted sum of them.

A term says what it needs of the teacher and of the student, so that nothing else is computed or kept. It gives the loss
of each row of a batch; rows are what workers, micro-batches and the rungs of a search are made of. A term that compares
rows with one another names how many consecutive rows of the whole batch form a group; no group is ever divided.

Layers are numbered as hidden states are: 0 is the embeddings' output, ``i`` is layer ``i`` of 1 to ``n``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from workloads.craft.signals import Batch, Signals, Wants


@dataclass(frozen=True)
class Counts:
    """Divisors of losses: the rows, real tokens and real token pairs of a (whole) batch."""

    rows: int
    tokens: int
    pairs: int


@dataclass(frozen=True)
class LearnedMap:
    """A linear map of a student's hidden states to targets, trained with the student and saved beside its weights.

    Attributes:
        name: Of the part in :mod:`workloads.shapes.parameters`.
        copies: Its outputs are so many times the teacher's hidden size. It starts as the identity to each of them.
    """

    name: str
    copies: int = 1


LearnedMaps = Callable[[str, Tensor], Tensor]
"""Applies the learned map of a name to ``[..., H]``."""


class Term(Protocol):
    """One comparison of a student with its teacher."""

    @property
    def weight(self) -> float:
        """Factor of the term's loss in the sum."""
        ...

    @property
    def group(self) -> int:
        """Rows that are compared with one another: 1, or so many consecutive rows of the whole batch."""
        ...

    @property
    def maps(self) -> tuple[LearnedMap, ...]:
        """The learned maps that it needs."""
        ...

    @property
    def pools(self) -> bool:
        """Whether a row must be one document."""
        ...

    def teacher_wants(self) -> Wants:
        """Give the signals that it needs of the teacher."""
        ...

    def student_wants(self, layers: int) -> Wants:
        """Give the signals that it needs of a student with so many layers."""
        ...

    def targets(self, teacher: Signals, batch: Batch, head_order: Tensor | None) -> Any:
        """Prepare the teacher's side of a batch, once for all its students.

        Args:
            teacher: What the teacher gave.
            batch: The batch, or some of its rows.
            head_order: Order of the attention width's dimensions ``[A]`` in which the teacher's last layer is read,
                where the SuperLM's heads were reordered; None where they were not.
        """
        ...

    def loss_rows(self, student: Signals, targets: Any, batch: Batch, counts: Counts, maps: LearnedMaps) -> Tensor:
        """Give each row's share of the loss, ``[B]``, without the weight.

        Args:
            student: What the student gave.
            targets: The teacher's side of the same rows.
            batch: The batch, or some of its rows.
            counts: Of the whole batch, so that the shares of its rows add up to its mean.
            maps: The learned maps.
        """
        ...


def rows_of_groups(losses_G: Tensor, rows: int, group: int) -> Tensor:
    """Give each group's loss to its rows in equal parts, ``[B]``; the last group may have fewer rows."""
    sizes = torch.full_like(losses_G, group)
    sizes[-1] = rows - group * (len(losses_G) - 1)
    return (losses_G / sizes).repeat_interleave(group)[:rows]


def real_tokens(values_BL: Tensor, mask_BL: Tensor | None) -> Tensor:
    """Sum over the real tokens of each row, ``[B]``."""
    return (values_BL if mask_BL is None else values_BL * mask_BL).sum(1)
