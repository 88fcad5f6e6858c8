"""The terms on a head's output, by the kind of head."""

from __future__ import annotations

import functools

from workloads.craft.objectives.logits import Logits, LogitsForm
from workloads.craft.objectives.term import Term
from workloads.craft.objectives.vectors import VECTOR_PROJECTION, Similarities, VectorDistance
from workloads.shapes.heads import Head, LogitsHead, Problem, VectorHead
from workloads.spec.request import ObjectiveSpec

_FORMS: dict[Problem, LogitsForm] = {"single-label": "kl", "multi-label": "binary-kl", "regression": "mse"}


@functools.singledispatch
def head_terms(head: Head | None, spec: ObjectiveSpec) -> list[Term]:
    """Return the terms on the output of a head.

    Args:
        head: The head; None for an encoder, which has no such terms.
        spec: An objective that :func:`workloads.methods.fitting.settled` has set for the teacher.
    """
    assert head is None, type(head)
    return []


@head_terms.register
def _logits(head: LogitsHead, spec: ObjectiveSpec) -> list[Term]:
    if spec.logits is None or not spec.logits.weight:
        return []
    return [Logits(_FORMS[head.problem], spec.logits.temperature, spec.logits.weight, pools=True)]


@head_terms.register
def _vectors(head: VectorHead, spec: ObjectiveSpec) -> list[Term]:
    asked, terms = spec.embedding, list[Term]()
    if asked is not None and asked.weight:
        maps = () if head.teacher_width is None else (VECTOR_PROJECTION,)
        terms.append(VectorDistance(head.normalize, asked.weight, maps=maps))
    if asked is not None and asked.similarity_weight:
        terms.append(Similarities(asked.similarity_temperature, asked.similarity_rows, asked.similarity_weight))
    return terms
