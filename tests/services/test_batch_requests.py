"""A batch's request: the merge of the common part and the items, and the fields that findings name."""

import re
from pathlib import Path

import pytest
import yaml

from services.intake.batch import MAX_COMPRESSIONS, accept_batch, parse_batch
from services.intake.compression import AcceptedCompression, accept_compression
from workloads.spec.errors import InputError
from workloads.spec.request import parse_request

DOCS = Path(__file__).parents[2] / "docs/batches.md"


@pytest.fixture
def common(make_request):
    request = make_request(team="search")
    del request["teacher"]
    return request


def _teachers(*names):
    return [{"teacher": {"model": name}} for name in names]


def _accepted(data):
    return accept_batch(parse_batch(data), accept_compression)


def _one(data):
    return accept_compression(parse_request(data))


def _refused(data):
    with pytest.raises(InputError) as refused:
        _accepted(data)
    return [finding.field for finding in refused.value.errors]


def test_an_item_replaces_whole_fields_of_the_common_part_and_labels_are_merged(common):
    one, two = _teachers("a/one", "a/two")
    two |= {"seed": 7, "budgets": [{"name": "other", "max_params": 5}], "labels": {"team": "ads", "size": "l"}}
    first, second = _accepted({"common": common | {"seed": 3}, "compressions": [one, two]}).compressions
    assert first == _one(common | one | {"seed": 3})
    assert second == _one(common | two)
    assert (first.request.labels, second.request.labels) == ({"team": "search"}, {"team": "ads", "size": "l"})


def test_compressions_may_have_nothing_in_common(make_request):
    accepted = _accepted({"compressions": [make_request(), make_request(a=1)]})
    assert accepted.compressions == (_one(make_request()), _one(make_request(a=1)))
    assert (accepted.asked.name, accepted.asked.max_running, accepted.asked.labels) == (None, None, {})


def test_what_is_wrong_with_the_common_part_is_told_once(common):
    wrong = common | {"corpus": {"paths": ["/nowhere.txt"]}}
    assert _refused({"common": wrong, "compressions": _teachers(*"abcdefgh")}) == ["common.corpus.paths.0"]
    wrong = common | {"budgets": [{"name": "x", "max_params": 0}], "bogus": 1, "labels": {"not a name": "x"}}
    fields = {"common.budgets.0.max_params", "common.bogus", "common.labels.not a name"}
    assert set(_refused({"common": wrong, "compressions": _teachers("a", "b")})) == fields


def test_what_is_wrong_with_an_item_is_told_of_that_item_alone(common):
    items = _teachers("a/one", "/nowhere", "a/three")
    items[0] |= {"labels": {"not a name": "x"}}
    items[2] |= {"corpus": {"paths": ["/nowhere.txt"]}}
    assert _refused({"common": common, "compressions": items}) == [
        "compressions.0.labels.not a name",
        "compressions.1.teacher.model",
        "compressions.2.corpus.paths.0",
    ]


def test_a_field_that_no_part_has_is_missing_in_the_common_one_and_else_where_it_is_not(common):
    budgets = common.pop("budgets")
    assert _refused({"common": common, "compressions": _teachers("a", "b")}) == ["common.budgets"]
    items = _teachers("a", "b", "c")
    items[1]["budgets"] = budgets
    assert _refused({"common": common, "compressions": items}) == ["compressions.0.budgets", "compressions.2.budgets"]


def test_what_is_wrong_with_a_compression_as_a_whole_is_told_of_the_part_that_does_it(common):
    twice = {"budgets": common["budgets"] * 2}
    assert _refused({"common": common | twice, "compressions": _teachers("a", "b")}) == ["common.budgets"]
    one, two = _teachers("a", "b")
    assert _refused({"common": common, "compressions": [one, two | twice]}) == ["compressions.1.budgets"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"compressions": []}, "compressions"),
        ({"compressions": _teachers(*map(str, range(MAX_COMPRESSIONS + 1)))}, "compressions"),
        ({"compressions": [1]}, "compressions.0"),
        ({"common": []}, "common"),
        ({"max_running": 0}, "max_running"),
        ({"max_running": 1001}, "max_running"),
        ({"labels": {"not a name": "x"}}, "labels.not a name"),
        ({"name": ""}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"max_runing": 1}, "max_runing"),
    ],
)
def test_what_is_wrong_with_the_batch_itself_is_told_with_its_field(common, changes, field):
    assert _refused({"common": common, "compressions": _teachers("a")} | changes) == [field]


@pytest.mark.parametrize("body", [None, [], "batch", 3])
def test_a_body_that_is_no_object_is_refused(body):
    assert _refused(body) == ["request"]


def test_the_largest_batch_is_taken(common):
    teachers = [f"a/{n}" for n in range(MAX_COMPRESSIONS)]
    accepted = _accepted({"common": common, "compressions": _teachers(*teachers)})
    assert [one.request.teacher.model for one in accepted.compressions] == teachers


def test_the_documented_request_is_one_and_gives_what_is_said_of_it():
    body = yaml.safe_load(re.search(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)[1])
    accepted = accept_batch(parse_batch(body), lambda one: AcceptedCompression(one, 0))
    assert [[budget.name for budget in one.request.budgets] for one in accepted.compressions] == [
        ["small"],
        ["small", "smallest"],
    ]
    assert [one.request.labels for one in accepted.compressions] == [{"team": "search"}] * 2
