from __future__ import annotations

from typing import Any

import pytest
import yaml

from workloads.spec.autodistil import AutoDistilRequest
from workloads.spec.budgets import Budget
from workloads.spec.errors import InputError
from workloads.spec.request import CompressionRequest, parse_request, parse_request_text

SMALLEST: dict[str, Any] = {
    "teacher": {"model": "teacher"},
    "corpus": {"paths": ["speeches/*.txt"]},
    "budgets": [{"name": "edge", "max_params": 8_000_000}],
}
SPACE: dict[str, Any] = {"name": "mine", "layers": [2], "hidden_sizes": [128], "mlp_ratios": [2.0]}


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
        ({"training": {"tokens": 1}}, "training.tokens", "Did you mean 'tokens_per_superlm'?"),
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


@pytest.mark.parametrize("value", [0, 1, 1.0, "true", "no", "0"])
def test_a_switch_is_true_or_false_and_nothing_like_it(value: object) -> None:
    for changes, field in (
        ({"export": {"onnx": value}}, "export.onnx"),
        ({"subspaces": {"importance": value}}, "subspaces.importance"),
    ):
        (found,) = refusal(**changes).errors
        assert (found.field, found.remedy) == (field, "Use true or false.")


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
        ({"training": {"tokens_per_superlm": 4095, "sequence_length": 128}}, "at least 4096"),
        ({"training": {"tokens_per_superlm": {"tiny": 5}}}, "tokens_per_superlm.tiny"),
        (
            {"polish": {"tokens": 4095}, "training": {"sequence_length": 128}},
            "polish.tokens: 4095 is less than one step of 32 x 128 tokens",
        ),
        ({"subspaces": {"count": 5, "preset": "autodistil-paper"}}, "subspaces.count: The paper's preset has 3"),
        ({"subspaces": {"count": 5, "spaces": [SPACE]}}, "subspaces.count: It is 5, but the length of 'spaces' is 1"),
        ({"subspaces": {"preset": "autodistil-paper", "spaces": [SPACE]}}, "subspaces.preset: "),
        ({"subspaces": {"spaces": [SPACE, SPACE]}}, "subspaces.spaces.1.name: Two sub-spaces have the same name"),
        ({"training": {"tokens_per_superlm": {"tiny": 200_000}}}, "the sub-spaces are tiny, small, base"),
        ({"training": {"placement": [["tiny", "nope"]]}}, "training.placement: Its groups hold nope, tiny"),
        ({"training": {"placement": [["tiny", "small"], ["base"], []]}}, "exactly one group"),
    ],
)
def test_values_that_contradict_each_other_are_refused_with_a_remedy(changes: dict[str, Any], says: str) -> None:
    (found,) = refusal(**changes).errors
    assert says in str(found) and found.problem and found.remedy


def test_a_kept_request_with_all_its_defaults_written_out_contradicts_nothing() -> None:
    for subspaces in ({"spaces": [SPACE]}, {"preset": "autodistil-paper"}, {"count": 5}):
        request = parse_request(SMALLEST | {"subspaces": subspaces})
        assert parse_request(request.model_dump(mode="json")) == request


@pytest.mark.parametrize(
    ("changes", "field", "remedy"),
    [
        ({"budgets": []}, "budgets", "Give at least 1 entry."),
        ({"budgets": [{"name": "", "max_params": 1}]}, "budgets.0.name", "Begin with a letter or a digit"),
        ({"budgets": [{"name": "a b", "max_params": 1}]}, "budgets.0.name", "Begin with a letter or a digit"),
        ({"budgets": [{"name": "a", "max_params": "8e6"}]}, "budgets.0.max_params", "Write 8000000; "),
        ({"budgets": [{"name": "a", "max_params": "many"}]}, "budgets.0.max_params", "Use a whole number"),
        ({"budgets": [{"name": "a", "max_params": 1.5}]}, "budgets.0.max_params", "Use a whole number"),
        ({"budgets": {"name": "a"}}, "budgets", "Use a list"),
        ({"teacher": {"model": ""}}, "teacher.model", "Give at least 1 character."),
        ({"teacher": {"model": 3}}, "teacher.model", "Use text"),
        ({"teacher": "bert"}, "teacher", "Use an object"),
        ({"teacher": {"model": "a\0b"}}, "teacher.model", "Leave it out."),
        ({"corpus": {"paths": ["a\0b"]}}, "corpus.paths.0", "Leave it out."),
        ({"labels": {"team": "a\0b"}}, "labels.team", "Leave it out."),
        ({"training": {"learning_rate": "fast"}}, "training.learning_rate", "Use a number."),
        ({"export": {"onnx": "maybe"}}, "export.onnx", "Use true or false."),
        ({"subspaces": {"spaces": [SPACE | {"layers": [-2]}]}}, "subspaces.spaces.0.layers.0", "at least 1"),
        ({"subspaces": {"spaces": [SPACE | {"mlp_ratios": [-1]}]}}, "subspaces.spaces.0.mlp_ratios.0", "more than 0"),
        ({"subspaces": {"spaces": [SPACE | {"heads": []}]}}, "subspaces.spaces.0.heads", "Give at least 1 entry."),
    ],
)
def test_a_wrong_value_is_answered_with_what_would_be_right(changes: dict[str, Any], field: str, remedy: str) -> None:
    (found,) = refusal(**changes).errors
    assert found.field == field and remedy in found.remedy


def test_a_wrong_value_is_repeated_in_part_only() -> None:
    assert len(str(refusal(teacher=["x" * 5000]))) < 400


def test_every_wrong_field_is_named_at_once() -> None:
    fields = {found.field for found in refusal(seed=-1, method="magic", teacher={}).errors}
    assert fields == {"seed", "method", "teacher.model"}
    many = refusal(budgets=SMALLEST["budgets"] * 2, training={"tokens_per_superlm": {"a": 5000}, "placement": [["a"]]})
    assert [one.field for one in many.errors] == ["budgets", "training.tokens_per_superlm", "training.placement"]


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
    training = {"tokens_per_superlm": {"small": 2500, "base": 1024}, "sequence_length": 64, "batch_size": 16}
    request = parse_request({**SMALLEST, "training": training, "subspaces": {"count": 2}})
    assert (request.training.steps_for("small"), request.training.steps_for("base")) == (2, 1)


def test_a_budget_lists_only_the_limits_that_are_set() -> None:
    assert Budget(name="a", max_params=None, max_flops=7, sequence_length=128).limits == {"max_flops": 7}


def test_the_papers_preset_is_its_whole_recipe() -> None:
    request = parse_request(SMALLEST | {"subspaces": {"preset": "autodistil-paper"}})
    objective, training = request.objective, request.training
    assert (objective.relation, objective.relation_heads, objective.remainder) == ("raw-mse", 12, "drop")
    assert (training.learning_rate, training.schedule, training.warmup_fraction) == (4e-5, "linear", 0.0)
    assert (training.weight_decay, training.clip_norm, training.dropout) == (0.01, 1.0, 0.1)
    assert (training.batch_size, training.sequence_length, training.random_subnets) == (2048, 128, 2)
    assert (training.smallest_every, request.subspaces.spread) == (1, "floor")
    assert request.subspaces.importance is False
    assert training.tokens_per_superlm == parse_request(SMALLEST).training.tokens_per_superlm


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [("objective", "relation", "kl"), ("training", "learning_rate", 1e-3), ("training", "batch_size", 16),
     ("subspaces", "importance", True), ("training", "warmup_fraction", 0.05)],
)  # fmt: skip
def test_a_field_that_is_given_wins_over_the_recipe(part: str, field: str, value: Any) -> None:
    paper = {"preset": "autodistil-paper"}
    given = SMALLEST | {"subspaces": paper} | {part: {field: value} | (paper if part == "subspaces" else {})}
    request = parse_request(given)
    assert getattr(getattr(request, part), field) == value
    assert request.training.clip_norm == 1.0 and request.objective.remainder == "drop"
    assert parse_request(request.model_dump(mode="json")) == request
    without = {"subspaces", "objective", "training"}
    built = AutoDistilRequest(**{name: getattr(request, name) for name in without}, **SMALLEST)
    assert built == request


def test_a_part_that_is_no_object_is_still_refused_under_the_recipe() -> None:
    assert [one.field for one in refusal(subspaces={"preset": "autodistil-paper"}, training=[]).errors] == ["training"]
