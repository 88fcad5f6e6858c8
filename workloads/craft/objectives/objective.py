"""Objectives: take what a teacher and a student gave for a batch, and return a loss.

An objective says which signals it needs of each side, so that nothing else is computed or kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from workloads.craft.objectives.output import pool, pooled_loss, token_loss
from workloads.craft.objectives.relation import RelationCounts, RelationLoss, RelationTarget
from workloads.craft.signals import Batch, Signals, Wants
from workloads.shapes.architecture import Architecture, TeacherShape
from workloads.spec.errors import InputError
from workloads.spec.request import ObjectiveSpec

__all__ = ["Counts", "Objective", "Targets", "objective_for"]


@dataclass(frozen=True)
class Counts:
    """What losses are divided by: the rows, real tokens and real token pairs of a (whole) batch."""

    rows: int
    tokens: int
    pairs: int


@dataclass(frozen=True)
class Targets:
    """The teacher's side of a batch; ``relations`` in the order queries, keys, values."""

    relations: tuple[RelationTarget, ...] = ()
    output: Tensor | None = None


@dataclass(frozen=True)
class Objective:
    """Relations of the last layer, an output term, or both.

    Attributes:
        layout: ``documents`` (one a row, padded) where the output is pooled, ``packed`` otherwise.
    """

    spec: ObjectiveSpec
    relation: RelationLoss | None
    teacher_last: int

    @property
    def layout(self) -> Literal["packed", "documents"]:
        """How the corpus must be laid out."""
        return "documents" if self.spec.output is not None and self.spec.output.kind == "pooled" else "packed"

    @property
    def needs_projection(self) -> bool:
        """Whether a SuperLM must carry a learned output projection."""
        return self.spec.output is not None

    @property
    def teacher_wants(self) -> Wants:
        """What the teacher must give: its last layer's relations, its output."""
        return self._wants(self.teacher_last)

    def student_wants(self, architecture: Architecture) -> Wants:
        """What a student must give: the same of its own last layer."""
        return self._wants(len(architecture.layers) - 1)

    def counts(self, batch: Batch) -> Counts:
        """Count a batch, on the host side of it if it still is there."""
        rows, length = batch.input_ids_BL.shape
        if batch.mask_BL is None:
            return Counts(rows, rows * length, rows * length * length)
        real = batch.mask_BL.sum(1)
        return Counts(rows, int(real.sum()), int((real * real).sum()))

    def targets(self, signals: Signals, batch: Batch, head_order: Tensor | None = None) -> Targets:
        """Prepare the teacher's side of a batch.

        Args:
            signals: What the teacher gave for :attr:`teacher_wants`.
            batch: The batch.
            head_order: Order of the attention width's dimensions ``[A]`` in which the teacher's last layer is read,
                where the SuperLM's heads were reordered.
        """
        relations: list[RelationTarget] = []
        if self.relation is not None:
            for part in (signals.queries, signals.keys, signals.values):
                x_BLA = part[self.teacher_last]
                ordered = x_BLA if head_order is None else x_BLA[..., head_order]
                relations.append(self.relation.target(ordered, batch.mask_BL))
        output = None
        if self.spec.output is not None:
            assert signals.output_BLH is not None
            output = signals.output_BLH.float()
            if self.spec.output.kind == "pooled":
                output = pool(output, batch.mask_BL)
        return Targets(tuple(relations), output)

    def loss(
        self, signals: Signals, targets: Targets, batch: Batch, counts: Counts, project: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Compare a student with the teacher: the sum of :meth:`loss_rows`, a scalar."""
        return self.loss_rows(signals, targets, batch, counts, project).sum()

    def loss_rows(
        self, signals: Signals, targets: Targets, batch: Batch, counts: Counts, project: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Compare a student with the teacher, row by row.

        Args:
            signals: What the student gave for :meth:`student_wants`.
            targets: The teacher's side of the same batch.
            batch: The batch, or this worker's part of it.
            counts: Of the whole batch, so that the losses of its parts add up to its mean.
            project: Maps the student's output to the teacher's width.

        Returns:
            ``[B]``, each row's share of the weighted sum of the terms.
        """
        terms: list[Tensor] = []
        if self.relation is not None:
            parts = (signals.queries, signals.keys, signals.values)
            relation_counts = RelationCounts(counts.tokens, counts.pairs)
            for weight, part, target in zip(self.spec.relation_weights, parts, targets.relations, strict=True):
                if weight:
                    x_BLA = part[max(part)]
                    terms.append(weight * self.relation(x_BLA, target, batch.mask_BL, relation_counts))
        if self.spec.output is not None:
            assert signals.output_BLH is not None and targets.output is not None
            count, term = (
                (counts.rows, pooled_loss) if self.spec.output.kind == "pooled" else (counts.tokens, token_loss)
            )
            value = term(signals.output_BLH, targets.output, batch.mask_BL, count, project)
            terms.append(self.spec.output.weight * value)
        return sum(terms[1:], start=terms[0])

    def _wants(self, last: int) -> Wants:
        relations = frozenset([last]) if self.relation is not None else frozenset()
        return Wants(relations=relations, output=self.spec.output is not None)


def objective_for(spec: ObjectiveSpec, shape: TeacherShape) -> Objective:
    """Build the objective that a request asks for.

    Raises:
        InputError: More relation heads than the teacher is wide.
    """
    heads = spec.relation_heads or shape.heads
    if heads > shape.hidden_size:
        raise InputError.of(
            "objective.relation_heads",
            f"{heads} relation heads cannot split a teacher that is {shape.hidden_size} wide.",
            f"Use at most {shape.hidden_size}, and no more than the narrowest student's attention width.",
        )
    relation = RelationLoss(spec.relation, heads, spec.remainder) if spec.relation is not None else None
    return Objective(spec, relation, shape.layers - 1)
