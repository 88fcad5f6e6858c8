from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from workloads.methods.fitting import fitting_spaces
from workloads.shapes.architecture import Architecture, TeacherShape, Vocabulary
from workloads.spec.errors import InputError
from workloads.spec.lengths import length_findings
from workloads.spec.request import CompressionRequest, parse_request

TEACHER = TeacherShape(
    Architecture.of_teacher(6, 384, 12, 1536), Vocabulary("roberta", 1000, 514, 1, reserved_positions=2)
)
LONG = [{"name": "long", "sequence_length": 513}]


def request(budget: dict[str, Any], **more: Any) -> CompressionRequest:
    return parse_request(
        {"teacher": {"model": "t"}, "corpus": {"paths": ["a"]}, "budgets": [{"name": "x"} | budget], **more}
    )


def test_what_a_teacher_reads_leaves_out_the_rows_before_the_first_token() -> None:
    assert (TEACHER.longest, replace(TEACHER.vocabulary, reserved_positions=0).longest) == (512, 514)


@pytest.mark.parametrize(
    ("budget", "more", "field"),
    [
        ({"max_flops": 10**9, "sequence_length": 513}, {}, "budgets.0.sequence_length"),
        ({"max_params": 10**6, "sequence_length": 513}, {}, "budgets.0.sequence_length"),
        ({"max_latency_ms": 5, "latency_target": "long"}, {"latency_targets": LONG}, "budgets.0.latency_target"),
        (
            {"max_params": 10**6},
            {"proxy_task": {"train": ["a"], "validation": ["b"], "text_columns": ["t"], "sequence_length": 513}},
            "proxy_task.sequence_length",
        ),
        ({"max_params": 10**6}, {"training": {"sequence_length": 513}}, "training.sequence_length"),
    ],
)
def test_what_is_longer_than_the_teacher_reads_is_refused_by_its_field(
    budget: dict[str, Any], more: dict[str, Any], field: str
) -> None:
    with pytest.raises(InputError) as refused:
        fitting_spaces(request(budget, **more), TEACHER)
    (finding,) = refused.value.errors
    assert finding.field == field and "at most 512" in finding.remedy


def test_what_the_teacher_just_reads_is_taken() -> None:
    just = [{"name": "long", "sequence_length": 512}]
    budget = {"max_flops": 10**9, "sequence_length": 512, "max_latency_ms": 5, "latency_target": "long"}
    assert length_findings(request(budget, latency_targets=just), 512) == []


def test_the_default_length_of_a_budget_that_counts_nothing_at_it_says_nothing() -> None:
    assert length_findings(request({"max_params": 10**6}), 64) == []
    assert [one.field for one in length_findings(request({"max_flops": 10**6}), 64)] == ["budgets.0.sequence_length"]
