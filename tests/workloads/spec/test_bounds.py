"""Bounds: every number, text and list of a request has one, and a value beyond it is refused by its field."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from services.intake.batch import BatchRequest
from services.intake.selection import SelectionRequest
from workloads.spec.budgets import Budget, LatencyTarget
from workloads.spec.errors import InputError
from workloads.spec.evaluation import AcceptedEvaluation, EvaluationRequest, parse_evaluation
from workloads.spec.parsing import parse_as
from workloads.spec.part import MOST_LEVELS, MOST_VALUES, Part
from workloads.spec.reading import UnreadableTextError, load_text
from workloads.spec.request import CompressionRequest, parse_request

REQUEST: dict[str, Any] = {
    "teacher": {"model": "t"},
    "corpus": {"paths": ["a.txt"]},
    "budgets": [{"name": "x", "max_params": 1000}],
}
KINDS = [
    CompressionRequest,
    SelectionRequest,
    EvaluationRequest,
    AcceptedEvaluation,
    BatchRequest,
    Budget,
    LatencyTarget,
]


def unbounded(schema: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[str]:
    """The paths of all values in a JSON schema that may be as large as one likes."""
    if "$ref" in schema:
        yield from unbounded(root["$defs"][schema["$ref"].rpartition("/")[2]], root, path)
        return
    kind = schema.get("type")
    if kind in {"integer", "number"} and not {"maximum", "exclusiveMaximum"} & schema.keys():
        yield path
    if kind == "string" and not {"maxLength", "pattern", "enum", "const"} & schema.keys():
        yield path
    if kind == "array" and "maxItems" not in schema:
        yield path
    free = schema.get("additionalProperties") is True  # an item of a batch, checked as a request of its own
    if kind == "object" and not {"properties", "maxProperties"} & schema.keys() and not free:
        yield path
    for name, inner in schema.get("properties", {}).items():
        yield from unbounded(inner, root, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield from unbounded(schema[name], root, f"{path}[]")
    for name in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for inner in schema.get(name, []):
            yield from unbounded(inner, root, path)


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_text_and_list_has_a_bound(kind: type[Part]) -> None:
    schema = kind.model_json_schema()
    assert list(unbounded(schema, schema, kind.__name__)) == []


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ("search", "heldout_blocks"), ("search", "first_rung_blocks"), ("search", "population"),
        ("training", "max_failures"), ("training", "checkpoint_every_steps"), ("training", "batch_size"),
        ("training", "workers"), ("training", "tokens_per_superlm"), ("training", "clip_norm"),
        ("objective", "relation_heads"), ("subspaces", "count"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", [10**40, 1e40, 1e300])
def test_a_number_beyond_its_bound_is_refused_by_its_field_and_bound(part: str, field: str, value: float) -> None:
    with pytest.raises(InputError) as refused:
        parse_request(REQUEST | {part: {field: value}})
    (found,) = (one for one in refused.value.errors if one.field == f"{part}.{field}")
    assert "of at most" in found.remedy


def test_a_budget_beyond_its_bound_is_refused() -> None:
    with pytest.raises(InputError) as refused:
        parse_request(REQUEST | {"budgets": [{"name": "x", "max_params": 1e40}]})
    (found,) = refused.value.errors
    assert found.field == "budgets.0.max_params" and "at most 1000000000000000" in found.remedy


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"labels": {"a": "\ud800"}}, "labels.a"),
        ({"labels": {"\ud800": "a"}}, "labels"),
        ({"\udfff": 1}, "request"),
        ({"corpus": {"paths": ["ok", "x\udc00"]}}, "corpus.paths.1"),
        ({"corpus": {"paths": ["a\0b"]}}, "corpus.paths.0"),
        ({"training": {"placement": [["\ud800"]]}}, "training.placement.0.0"),
        ({"teacher": {"model": "t", "what\ud9ff": 1}}, "teacher"),
        ({"budgets": [{"name": "\ud834"}]}, "budgets.0.name"),
    ],
)
def test_text_that_utf_8_cannot_hold_is_refused_wherever_it_stands(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_request(REQUEST | change)
    (found,) = refused.value.errors
    assert found.field == field
    str(found).encode()


def test_characters_beyond_the_basic_plane_are_text_like_any_other() -> None:
    assert parse_request(REQUEST | {"labels": {"team": "🔥 ключ"}}).labels == {"team": "🔥 ключ"}


@pytest.mark.parametrize("parse", [parse_request, parse_evaluation, lambda data: parse_as(BatchRequest, data, "it")])
@pytest.mark.parametrize("depth", [MOST_LEVELS + 1, 400, 100_000])
def test_what_is_nested_deep_is_refused_by_its_field(parse: Any, depth: int) -> None:
    deep: Any = []
    for _ in range(depth):
        deep = [deep]
    for field in ("labels", "common", "unknown"):
        with pytest.raises(InputError) as refused:
            parse({field: {"a": deep}})
        assert refused.value.errors[0].field == field and str(MOST_LEVELS) in refused.value.errors[0].problem


def test_a_request_of_very_many_values_is_refused_at_once() -> None:
    began = time.process_time()
    with pytest.raises(InputError, match="values"):
        parse_request(REQUEST | {"corpus": {"paths": ["a"] * (MOST_VALUES + 1)}})
    assert time.process_time() - began < 5


@pytest.mark.parametrize("text", ["[" * 20_000, "a: " + "{b: " * 20_000, "- " * 20_000, "{" * 20_000 + '"a"'])
def test_text_that_is_nested_deep_is_refused_at_once(text: str) -> None:
    began = time.process_time()
    with pytest.raises(UnreadableTextError):
        load_text(text)
    assert time.process_time() - began < 2


def test_yaml_of_few_lines_does_not_stand_for_many_values() -> None:
    with pytest.raises(UnreadableTextError, match="alias"):
        load_text("a: &a [1, 2]\nb: [*a, *a]")


def test_a_number_of_thousands_of_digits_is_no_request() -> None:
    with pytest.raises(UnreadableTextError):
        load_text(f"seed: {'9' * 5000}")
