"""Default lengths: the lesser of 128 and the teacher's longest sequence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from workloads.methods.fitting import fitting_spaces
from workloads.shapes.architecture import TeacherShape
from workloads.shapes.teacher_files import named_shape
from workloads.spec.errors import InputError
from workloads.spec.evaluation import parse_accepted, parse_evaluation
from workloads.spec.lengths import with_lengths
from workloads.spec.part import to_keep, with_length
from workloads.spec.request import parse_request


def shape_reading(longest: int) -> TeacherShape:
    shape = named_shape("bert-base")
    return replace(shape, vocabulary=replace(shape.vocabulary, positions=longest))


REQUEST: dict[str, Any] = {
    "teacher": {"model": "t"},
    "corpus": {"paths": ["a.txt"]},
    "proxy_task": {"train": ["a.csv"], "validation": ["b.csv"], "text_columns": ["t"]},
    "latency_targets": [{"name": "own"}],
    "budgets": [
        {"name": "flops", "max_flops": 10**9},
        {"name": "memory", "max_activation_bytes": 10**6},
        {"name": "quick", "max_latency_ms": 5, "latency_target": "own"},
    ],
}
EVALUATION: dict[str, Any] = {
    "model": {"teacher": {"model": "t"}},
    "task": {"kind": "single", "train": ["a.csv"], "validation": ["b.csv"], "text_columns": ["t"]},
}


def lengths(data: dict[str, Any]) -> list[int | None]:
    parts = [data["training"], data["proxy_task"], *data["latency_targets"], *data["budgets"]]
    return [part.get("sequence_length") for part in parts]


@pytest.mark.parametrize(("longest", "expected"), [(64, 64), (127, 127), (128, 128), (512, 128)])
def test_every_length_that_is_left_out_fits_the_teacher(longest: int, expected: int) -> None:
    request = with_lengths(parse_request(REQUEST), longest)
    assert set(lengths(to_keep(request))) == {expected}
    shape = shape_reading(longest)
    assert fitting_spaces(request, shape) == fitting_spaces(parse_request(REQUEST), shape)


def test_a_length_that_is_given_stays_and_is_refused_where_the_teacher_cannot_read_it() -> None:
    given = REQUEST | {"training": {"sequence_length": 128}}
    assert with_lengths(parse_request(given), 64).training.sequence_length == 128
    with pytest.raises(InputError) as refused:
        fitting_spaces(parse_request(given), shape_reading(64))
    assert [found.field for found in refused.value.errors] == ["training.sequence_length"]


def test_lengths_wait_in_what_is_kept_until_the_teacher_is_known() -> None:
    kept = to_keep(parse_request(REQUEST))
    assert set(lengths(kept)) == {None} and kept["training"]["batch_size"] == 32
    assert set(lengths(to_keep(with_lengths(parse_request(kept), 64)))) == {64}
    assert to_keep(parse_request(kept)) == kept


def test_an_evaluations_length_waits_too() -> None:
    asked = parse_evaluation(EVALUATION).accepted("artifacts/student/x")
    kept = to_keep(asked)
    assert "sequence_length" not in kept and kept["files"] == "artifacts/student/x" and kept["epochs"] == 3
    assert with_length(parse_accepted(kept), 64).sequence_length == 64
    given = parse_evaluation(EVALUATION | {"sequence_length": 128}).accepted(None)
    assert with_length(parse_accepted(to_keep(given)), 64).sequence_length == 128


STEP = 32 * 64
SHORT: list[tuple[str, dict[str, Any]]] = [
    ("training.tokens_per_superlm", {"training": {"tokens_per_superlm": STEP}}),
    (
        "training.tokens_per_superlm.base",
        {"training": {"tokens_per_superlm": {"tiny": 10**6, "small": 10**6, "base": STEP}}},
    ),
    ("polish.tokens", {"polish": {"tokens": STEP}}),
]


@pytest.mark.parametrize(("field", "changes"), SHORT, ids=[field for field, _ in SHORT])
def test_a_training_of_a_step_is_judged_by_the_teachers_own_length(field: str, changes: dict[str, Any]) -> None:
    request = parse_request(REQUEST | changes)
    assert fitting_spaces(request, shape_reading(64))
    with pytest.raises(InputError) as refused:
        fitting_spaces(request, shape_reading(65))
    assert [found.field for found in refused.value.errors] == [field]
    assert "32 x 65 tokens" in refused.value.errors[0].problem
    assert refused.value.errors[0].remedy == "Give at least 2080."


@pytest.mark.parametrize(("field", "changes"), SHORT, ids=[field for field, _ in SHORT])
def test_a_training_of_no_step_is_refused_before_the_teacher_is_known(field: str, changes: dict[str, Any]) -> None:
    part = field.partition(".")[0]
    for fewer in ({"batch_size": 257}, {"sequence_length": 65}):  # of eight tokens at least; of as many as are given
        given = changes | {"training": {**changes.get("training", {}), **fewer}}
        with pytest.raises(InputError) as refused:
            parse_request(REQUEST | given)
        assert [found.field.partition(".")[0] for found in refused.value.errors] == [part]
