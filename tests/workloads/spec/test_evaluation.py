"""The request of an evaluation: invalid requests, and the fields that findings name."""

from __future__ import annotations

from typing import Any

import pytest

from workloads.spec.errors import InputError
from workloads.spec.evaluation import parse_accepted, parse_evaluation, renamed


def request(**task: Any) -> dict[str, Any]:
    given = {"kind": "single", "train": ["train.csv"], "validation": ["validation.csv"], "text_columns": ["sentence"]}
    return {"model": {"compression": "cmp_1", "student": "stu_1"}, "task": given | task}


def test_a_short_request_has_its_defaults() -> None:
    asked = parse_evaluation(request())
    assert (asked.seeds, asked.epochs, asked.learning_rates) == ([0, 1, 2], 3, [1e-4, 5e-4])
    assert (asked.task.metric, asked.task.scored_on) == ("accuracy", "validation")
    assert asked.task_spec().validation == ["validation.csv"]
    other = parse_evaluation(request(validation=None, test=["test.jsonl"]))
    assert (other.task.scored_on, other.task_spec().validation) == ("test", ["test.jsonl"])


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"task": {"metric": "spearman"}}, "task.metric"),
    ({"task": {"kind": "similarity", "text_columns": ["a", "b"]}}, "task.metric"),
    ({"task": {"kind": "pair"}}, "task.text_columns"),
    ({"task": {"kind": "pair", "text_columns": ["a", "a"]}}, "task.text_columns"),
    ({"task": {"text_columns": ["a", "b"]}}, "task.text_columns"),
    ({"task": {"train": ["train.txt"]}}, "task.train.0"),
    ({"task": {"test": ["test.csv"]}}, "task"),
    ({"task": {"validation": None}}, "task"),
    ({"task": {"set_aside": 0}}, "task.set_aside"),
    ({"task": {"text_column": "sentence"}}, "task.text_column"),
    ({"seeds": []}, "seeds"),
    ({"seeds": [0, 1, 0]}, "seeds"),
    ({"seeds": list(range(21))}, "seeds"),
    ({"seeds": [-1]}, "seeds.0"),
    ({"learning_rates": [1e-3, 1e-3]}, "learning_rates"),
    ({"model": {"teacher": {"model": "x"}}}, "model"),
    ({"model": {"student": None}}, "model"),
    ({"model": {"compression": None, "student": None}}, "model"),
    ({"files": "artifacts/student"}, "files"),
]


@pytest.mark.parametrize(("changes", "field"), REFUSED)
def test_what_is_wrong_is_named_by_its_field(changes: dict[str, Any], field: str) -> None:
    data = request()
    for name, change in changes.items():
        data[name] = data.get(name, {}) | change if isinstance(change, dict) else change
    with pytest.raises(InputError) as caught:
        parse_evaluation(data)
    (finding,) = caught.value.errors
    assert finding.field == field
    assert finding.problem.endswith(".") and finding.remedy.endswith((".", "?"))


def test_twenty_seeds_are_taken() -> None:
    assert len(parse_evaluation(request() | {"seeds": list(range(20))}).seeds) == 20


def test_what_is_kept_for_the_run_names_the_students_folder() -> None:
    assert parse_accepted(request() | {"files": "artifacts/student/x"}).files == "artifacts/student/x"


def test_fields_are_renamed_at_and_below_a_part_alone() -> None:
    error = InputError.of("task.validation.0", "It is gone.", "Bring it back.")
    assert renamed(error, "task.validation", "task.test").errors[0].field == "task.test.0"
    assert renamed(error, "task.val", "task.test").errors[0].field == "task.validation.0"
