"""Budgets: limits, floors and what to minimise."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from workloads.spec.budgets import Budget


@pytest.mark.parametrize(
    "fields",
    [
        {"min_agreement": 0.97},
        {"min_cosine": 1.0, "minimise": "flops"},
        {"min_neighbours": 0.8, "minimise": "params", "max_flops": 10**9},
        {"min_spearman": 0.9, "minimise": "latency", "latency_target": "cpu-1"},
        {"min_spearman": 0.9, "minimise": "flops", "max_latency_ms": 5, "latency_target": "cpu-1"},
    ],
)
def test_a_floor_may_stand_alone_with_limits_and_with_a_cost_to_minimise(fields: dict[str, Any]) -> None:
    budget = Budget.model_validate({"name": "safe"} | fields)
    assert budget.floors == {name: value for name, value in fields.items() if name.startswith("min_")}
    assert budget.needs_latency == ("latency_target" in fields)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "limits nothing"),
        ({"minimise": "flops"}, "limits nothing"),
        ({"minimise": "flops", "max_params": 10}, "'minimise' without a floor"),
        ({"min_agreement": 0.9, "minimise": "latency"}, "Set 'latency_target'"),
        ({"min_agreement": 0.9, "latency_target": "cpu-1"}, "limits nothing by itself"),
        ({"min_agreement": 0.9, "minimise": "flops", "latency_target": "cpu-1"}, "limits nothing by itself"),
        ({"min_agreement": 0}, "greater than 0"),
        ({"min_cosine": 97}, "less than or equal to 1"),
        ({"min_agreement": 0.9, "minimise": "loss"}, "minimise"),
    ],
)
def test_a_budget_that_means_nothing_is_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Budget.model_validate({"name": "safe"} | fields)
