from __future__ import annotations

from typing import Any

import pytest
import yaml

from workloads.budgets import Budget
from workloads.errors import InputError
from workloads.request import CompressionRequest, parse_request, parse_request_text

SMALLEST: dict[str, Any] = {
    "teacher": {"model": "teacher"},
    "corpus": {"paths": ["speeches/*.txt"]},
    "budgets": [{"name": "edge", "max_params": 8_000_000}],
}


def refusal(**changes: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        parse_request({**SMALLEST, **changes})
    return caught.value


def test_the_smallest_request_fills_in_the_defaults() -> None:
    request = parse_request(SMALLEST)
    assert request.method == "autodistil" and request.subspaces.count == 3 and request.objective.relation == "kl"
    assert CompressionRequest.model_validate(request.model_dump(mode="json")) == request


@pytest.mark.parametrize(
    ("changes", "field", "remedy"),
    [
        ({"trainig": {}}, "trainig", "Did you mean 'training'?"),
        ({"training": {"learning_rat": 1}}, "training.learning_rat", "Did you mean 'learning_rate'?"),
        ({"budgets": [{"name": "a", "max_parms": 5}]}, "budgets.0.max_parms", "Did you mean 'max_params'?"),
        ({"corpus": {"paths": ["a"], "zzz": 1}}, "corpus.zzz", "Known fields here: paths"),
    ],
)
def test_an_unknown_field_is_named_with_the_nearest_known_one(changes: dict[str, Any], field: str, remedy: str) -> None:
    (found,) = refusal(**changes).errors
    assert found.field == field and remedy in found.remedy


@pytest.mark.parametrize(
    ("changes", "field", "remedy"),
    [
        ({"seed": -1}, "seed", "at least 0"),
        ({"subspaces": {"count": 0}}, "subspaces.count", "at least 1"),
        ({"training": {"dropout": 1}}, "training.dropout", "less than 1"),
        ({"corpus": {"paths": ["a"], "heldout_fraction": 0}}, "corpus.heldout_fraction", "more than 0"),
        ({"training": {"sequence_length": 5000}}, "training.sequence_length", "at most 4096"),
        ({"budgets": [{"name": "a", "max_flops": 0}]}, "budgets.0.max_flops", "more than 0"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_limit(changes: dict[str, Any], field: str, remedy: str) -> None:
    (found,) = refusal(**changes).errors
    assert found.field == field and remedy in found.remedy


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"budgets": []}, "budgets"),
        ({"subspaces": {"spaces": []}}, "subspaces.spaces"),
        ({"objective": {"relation_weights": [float("nan"), 1, 1]}}, "objective.relation_weights.0"),
        ({"training": {"placement": "nope"}}, "training.placement"),
        ({"training": {"tokens_per_superlm": "many"}}, "training.tokens_per_superlm"),
        ({"labels": {"a b": "x"}}, "labels.a b"),
        ({"teacher": {}}, "teacher.model"),
    ],
)
def test_a_value_that_does_not_fit_is_named_once(changes: dict[str, Any], field: str) -> None:
    assert [found.field for found in refusal(**changes).errors] == [field]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"budgets": [{"name": "a", "max_params": True}]}, "budgets.0.max_params"),
        ({"budgets": [{"name": "a", "max_latency_ms": True, "latency_target": "cpu-1"}]}, "budgets.0.max_latency_ms"),
        ({"seed": False}, "seed"),
        ({"training": {"tokens_per_superlm": {"tiny": True}}}, "training.tokens_per_superlm"),
        ({"objective": {"relation_weights": [True, 1, 1]}}, "objective.relation_weights"),
        ({"objective": {"output": {"kind": "token", "weight": True}}}, "objective.output.weight"),
    ],
)
def test_true_and_false_are_no_numbers(changes: dict[str, Any], field: str) -> None:
    (found,) = refusal(**changes).errors
    assert (found.field, found.remedy) == (field, "Use a number.")


def test_a_switch_may_be_true() -> None:
    request = parse_request({**SMALLEST, "export": {"onnx": True, "int8": False}, "subspaces": {"importance": True}})
    assert request.export.onnx and request.subspaces.importance


def test_an_unknown_objective_is_answered_with_the_choices() -> None:
    (found,) = refusal(objective={"relation": "mse"}).errors
    assert found.field == "objective.relation"
    assert all(name in found.remedy for name in ("softmax-mse", "raw-mse", "kl"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"corpus": {}}, "either 'paths' or 'dataset'"),
        ({"corpus": {"paths": ["a"], "dataset": "b"}}, "either 'paths' or 'dataset'"),
        ({"objective": {"relation": None}}, "Set 'relation' or 'output'"),
        ({"objective": {"relation_weights": [0, 0, 0]}}, "'relation_weights'"),
        ({"budgets": [{"name": "a"}]}, "Set one of 'max_params', "),
        ({"budgets": [{"name": "a", "max_params": 1}] * 2}, "'a'"),
        ({"training": {"tokens_per_superlm": 4095}}, "at least 4096"),
        ({"training": {"tokens_per_superlm": {"tiny": 5}}}, "tokens_per_superlm.tiny"),
        ({"training": {"workers": 3}}, "multiple of 'workers'"),
    ],
)
def test_values_that_contradict_each_other_are_refused_with_a_remedy(changes: dict[str, Any], says: str) -> None:
    (found,) = refusal(**changes).errors
    assert says in str(found) and found.problem and found.remedy


def test_every_wrong_field_is_named_at_once() -> None:
    fields = {found.field for found in refusal(seed=-1, method="magic", teacher={}).errors}
    assert fields == {"seed", "method", "teacher.model"}


def test_yaml_and_json_give_the_same_request() -> None:
    request = parse_request({**SMALLEST, "training": {"learning_rate": 1e-4}, "labels": {"team": "search"}})
    as_json, as_yaml = request.model_dump_json(), yaml.safe_dump(request.model_dump(mode="json"))
    assert parse_request_text(as_json) == parse_request_text(as_yaml) == request


@pytest.mark.parametrize("text", ["{", "teacher: [", "a list", "", "- 1"])
def test_text_that_is_no_request_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_request_text(text)
    assert caught.value.errors[0].field == "request"


def test_steps_are_the_tokens_over_those_of_a_batch_rounded_down() -> None:
    training = {"tokens_per_superlm": {"tiny": 2500, "base": 1024}, "sequence_length": 64, "batch_size": 16}
    request = parse_request({**SMALLEST, "training": training})
    assert (request.training.steps_for("tiny"), request.training.steps_for("base")) == (2, 1)


def test_a_budget_lists_only_the_limits_that_are_set() -> None:
    assert Budget(name="a", max_params=None, max_flops=7, sequence_length=128).limits == {"max_flops": 7}
