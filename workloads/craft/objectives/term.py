"""Terms, whose weighted sum is an objective.

A term names the signals that it needs of teacher and student, so that nothing else is computed or kept. It returns the
loss of each row of a batch, since workers, micro-batches and the rungs of a search divide batches by rows. A term that
compares rows with one another names how many consecutive rows of the whole batch form a group; no group is divided.

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
    """A linear map of a student's hidden states to targets, trained with the SuperLM and kept among its weights.

    Attributes:
        name: Name of the part in :mod:`workloads.shapes.parameters`.
        copies: Width of the output, in multiples of the teacher's hidden size; it starts as an identity for each.
    """

    name: str
    copies: int = 1


LearnedMaps = Callable[[str, Tensor], Tensor]
"""Function that applies the learned map of a name to hidden states ``[..., H]``."""


class Term(Protocol):
    """One comparison of a student with its teacher."""

    @property
    def weight(self) -> float:
        """Factor of the term's loss in the sum."""
        ...

    @property
    def group(self) -> int:
        """Number of consecutive rows of the whole batch that are compared with one another; 1 if none are."""
        ...

    @property
    def maps(self) -> tuple[LearnedMap, ...]:
        """The learned maps that the term needs."""
        ...

    @property
    def pools(self) -> bool:
        """Whether rows are pooled, so that each must hold one document."""
        ...

    def teacher_wants(self) -> Wants:
        """Return the signals that the term needs of the teacher."""
        ...

    def student_wants(self, layers: int) -> Wants:
        """Return the signals that the term needs of a student with ``layers`` layers."""
        ...

    def targets(self, teacher: Signals, batch: Batch, head_order: Tensor | None) -> Any:
        """Prepare the teacher's side of a batch, once for all its students.

        Args:
            teacher: The teacher's signals.
            batch: The batch, or some of its rows.
            head_order: Order of the dimensions of the attention width, ``[A]``, in which the teacher's last layer is
                read if the SuperLM's heads were reordered; None if they were not.
        """
        ...

    def loss_rows(self, student: Signals, targets: Any, batch: Batch, counts: Counts, maps: LearnedMaps) -> Tensor:
        """Return each row's share of the loss, ``[B]``, without the weight.

        Args:
            student: The student's signals.
            targets: The result of :meth:`targets` for the same rows.
            batch: The batch, or some of its rows.
            counts: Counts of the whole batch, so that the shares of all its rows add up to its mean.
            maps: The learned maps.
        """
        ...


def rows_of_groups(losses_G: Tensor, rows: int, group: int) -> Tensor:
    """Divide the losses of groups ``[G]`` equally among their rows, ``[B]``; the last group may have fewer rows."""
    sizes = torch.full_like(losses_G, group)
    sizes[-1] = rows - group * (len(losses_G) - 1)
    return (losses_G / sizes).repeat_interleave(group)[:rows]


def real_tokens(values_BL: Tensor, mask_BL: Tensor | None) -> Tensor:
    """Sum over the real tokens of each row, ``[B]``."""
    return (values_BL if mask_BL is None else values_BL * mask_BL).sum(1)
