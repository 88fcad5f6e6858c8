"""Floors that a kind of teacher has."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.workloads.methods.test_answering import SHAPE, request
from workloads.methods.fidelity import fidelity_rows, floor_findings
from workloads.shapes.architecture import TeacherShape
from workloads.shapes.heads import Dense, Head, LogitsHead, VectorHead
from workloads.spec.budgets import FLOORS

BUDGETS = [{"name": name, name: 0.9} for name in FLOORS]
VECTORS = VectorHead("mean", (Dense(384),), projected=True, normalize=True)


def shape_with(head: Head | None) -> TeacherShape:
    return replace(SHAPE, vocabulary=replace(SHAPE.vocabulary, head=head))


@pytest.mark.parametrize(
    ("head", "allowed"),
    [
        (None, set()),
        (LogitsHead("classification", 3), {"min_agreement"}),
        (LogitsHead("classification", 3, "multi-label"), {"min_agreement"}),
        (LogitsHead("token-classification", 3), {"min_agreement"}),
        (LogitsHead("classification", 1, "regression"), {"min_spearman"}),
        (VECTORS, {"min_cosine", "min_neighbours", "min_spearman"}),
        (replace(VECTORS, dense=(Dense(64),), teacher_width=384), {"min_neighbours", "min_spearman"}),
    ],
)
def test_floors_go_with_the_figures_of_the_teachers_kind(head: Head | None, allowed: set[str]) -> None:
    asked = request(*BUDGETS, fidelity_rows=100)
    refused = {finding.field for finding in floor_findings(asked, shape_with(head))}
    assert refused == {f"budgets.{index}.{name}" for index, name in enumerate(FLOORS) if name not in allowed}
    assert fidelity_rows(asked, shape_with(head)) == (None if head is None else 100)
    assert floor_findings(request({"name": "any", "max_params": 5}), shape_with(head)) == []
