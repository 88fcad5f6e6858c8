"""Objectives: weighted sums of terms, each of which compares signals of teacher and student for a batch."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from workloads.craft.objectives.of_heads import head_terms
from workloads.craft.objectives.output import PooledOutput, TokenOutput
from workloads.craft.objectives.relation import RELATIONS, Relation, RelationLoss
from workloads.craft.objectives.term import Counts, LearnedMap, LearnedMaps, Term
from workloads.craft.signals import Batch, Signals, Wants
from workloads.shapes.architecture import Architecture, TeacherShape
from workloads.shapes.kinds import settled_objective
from workloads.spec.errors import InputError
from workloads.spec.request import ObjectiveSpec

__all__ = ["Counts", "Objective", "Targets", "objective_for"]

Targets = tuple[Any, ...]
"""The teacher's side of a batch, by term."""


@dataclass(frozen=True)
class Objective:
    """A weighted sum of terms."""

    terms: tuple[Term, ...]

    @property
    def layout(self) -> Literal["packed", "documents"]:
        """Layout that the corpus must have: ``documents`` (one a row, padded) if rows are pooled."""
        return "documents" if any(term.pools for term in self.terms) else "packed"

    @property
    def maps(self) -> tuple[LearnedMap, ...]:
        """The learned maps that a SuperLM must carry, each once."""
        return tuple(dict.fromkeys(one for term in self.terms for one in term.maps))

    @property
    def group(self) -> int:
        """Number of consecutive rows of the whole batch that must stay together."""
        return math.lcm(*(term.group for term in self.terms))

    @property
    def teacher_wants(self) -> Wants:
        """The signals that the terms need of the teacher."""
        return _union(term.teacher_wants() for term in self.terms)

    def check_order(self, layers: int) -> None:
        """Refuse relations that cannot be read once a teacher's heads are ordered by importance.

        A SuperLM keeps the order of the last layer's heads alone.

        Args:
            layers: How many layers the teacher has.

        Raises:
            InputError: A term reads relations of another layer.
        """
        if others := sorted(self.teacher_wants.relations - {layers}):
            raise InputError.of(
                "subspaces.importance",
                f"Heads are ordered by importance, and the objective reads relations of layers "
                f"{', '.join(map(str, others))}; only those of the last layer can be read in that order.",
                "Set it to false, or use relations of the last layer alone.",
            )

    def student_wants(self, architecture: Architecture) -> Wants:
        """Return the signals that the terms need of a student."""
        return _union(term.student_wants(len(architecture.layers)) for term in self.terms)

    def counts(self, batch: Batch) -> Counts:
        """Count the rows, real tokens and token pairs of a batch; for a batch on a GPU this waits for the device."""
        rows, length = batch.input_ids_BL.shape
        if batch.mask_BL is None:
            return Counts(rows, rows * length, rows * length * length)
        real = batch.mask_BL.sum(1)
        return Counts(rows, int(real.sum()), int((real * real).sum()))

    def targets(self, signals: Signals, batch: Batch, head_order: Tensor | None = None) -> Targets:
        """Prepare the teacher's side of a batch; see :meth:`Term.targets`."""
        return tuple(term.targets(signals, batch, head_order) for term in self.terms)

    def loss(self, signals: Signals, targets: Targets, batch: Batch, counts: Counts, maps: LearnedMaps) -> Tensor:
        """Compare a student with the teacher: the sum of :meth:`loss_rows`, a scalar."""
        return self.loss_rows(signals, targets, batch, counts, maps).sum()

    def loss_rows(self, signals: Signals, targets: Targets, batch: Batch, counts: Counts, maps: LearnedMaps) -> Tensor:
        """Compare a student with the teacher, row by row.

        Args:
            signals: The student's signals, as :meth:`student_wants` names them.
            targets: The result of :meth:`targets` for the same rows.
            batch: The batch, or some of its rows that divide no :attr:`group`.
            counts: Counts of the whole batch, so that the losses of its parts add up to its mean.
            maps: The student's learned maps.

        Returns:
            ``[B]``, each row's share of the weighted sum of the terms.
        """
        losses = [
            term.weight * term.loss_rows(signals, target, batch, counts, maps)
            for term, target in zip(self.terms, targets, strict=True)
        ]
        return functools.reduce(operator.add, losses)


def _union(wants: Iterable[Wants]) -> Wants:
    return functools.reduce(operator.or_, wants)


def objective_for(spec: ObjectiveSpec, shape: TeacherShape) -> Objective:
    """Build the objective that a request asks for.

    Raises:
        InputError: There are more relation heads than the teacher's attention is wide, its last layer has no heads, or
            a term does not go with the teacher's kind.
    """
    heads, last = spec.relation_heads or shape.last_heads, shape.architecture.layers[-1]
    width = last.heads * last.head_width
    if spec.relation is not None and width == 0:
        raise InputError.of(
            "objective.relation",
            "The teacher's last layer has no heads, and so no relations.",
            "Set it to null and give an 'output'.",
        )
    if heads > width > 0:
        raise InputError.of(
            "objective.relation_heads",
            f"{heads} relation heads cannot split a teacher whose attention is {width} wide.",
            f"Use at most {width}, and no more than the narrowest student's attention width.",
        )
    terms: list[Term] = []
    if spec.relation is not None:
        loss = RelationLoss(spec.relation, heads, spec.remainder)
        weights = zip(RELATIONS, spec.relation_weights, strict=True)
        terms += [Relation(of, loss, shape.layers, weight) for of, weight in weights if weight]
    if spec.output is not None:
        output = PooledOutput if spec.output.kind == "pooled" else TokenOutput
        terms.append(output(spec.output.weight))
    terms += head_terms(shape.head, settled_objective(spec, shape.head))
    if not terms:
        raise InputError.of(
            "objective", "All its terms have the weight 0, so there is nothing to train on.", "Give one a weight."
        )
    return Objective(tuple(terms))
