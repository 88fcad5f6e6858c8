from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality.statistics import AVERAGED, Answers, average, difference, plain, points, tau_in_bands
from workloads.craft.tasks.metrics import METRICS, f1_binary

DRAW = np.random.default_rng(5)
BINARY = DRAW.integers(0, 2, 60).astype(float), DRAW.integers(0, 2, 60).astype(float)
VALUES = DRAW.normal(size=60).round(1), DRAW.integers(0, 6, 60).astype(float)
BY_PRODUCT = {
    "sst2": METRICS["accuracy"],
    "rte": METRICS["accuracy"],
    "mrpc": lambda given, labels: (METRICS["accuracy"](given, labels) + f1_binary(given, labels)) / 2,
    "cola": METRICS["matthews"],
    "stsb": METRICS["spearman"],
}


@pytest.mark.parametrize("task", BY_PRODUCT)
def test_points_are_the_products_metrics(task):
    given, labels = VALUES if task == "stsb" else BINARY
    (found,) = points(task, given, labels, np.ones((1, 60)))
    assert found == pytest.approx(100 * BY_PRODUCT[task](given, labels))


@pytest.mark.parametrize("task", BY_PRODUCT)
def test_points_of_counted_rows_are_those_of_repeated_rows(task):
    given, labels = VALUES if task == "stsb" else BINARY
    counts = np.random.default_rng(1).integers(0, 4, (3, 60))
    found = points(task, given, labels, counts.astype(float))
    repeated = [BY_PRODUCT[task](np.repeat(given, row), np.repeat(labels, row)) for row in counts]
    assert found == pytest.approx(100 * np.array(repeated))


@pytest.mark.parametrize("task", ["mrpc", "cola", "stsb"])
def test_a_score_that_is_not_defined_counts_as_none(task):
    constant = np.zeros(10)
    (found,) = points(task, constant, constant, np.ones((1, 10)))
    assert found == (50 if task == "mrpc" else 0)  # of MRPC the accuracy is left


def _answers(*right_of_100: int, seeds: tuple[int, ...] | None = None) -> Answers:
    labels = np.arange(100) % 2.0
    rows = [np.where(np.arange(100) < right, labels, 1 - labels) for right in right_of_100]
    return Answers(np.stack(rows), labels, seeds or tuple(range(len(right_of_100))))


def test_the_average_is_the_mean_over_tasks_of_the_means_over_seeds():
    answers = {"sst2": _answers(80, 90), "rte": _answers(60)}
    assert plain("sst2", answers["sst2"]).tolist() == [80, 90]
    assert average(answers, ["sst2", "rte"]) == pytest.approx((85 + 60) / 2)
    assert average(answers) is None
    assert AVERAGED == ("sst2", "mrpc", "rte", "stsb")


def test_equal_models_differ_by_nothing():
    found = difference({"rte": _answers(70)}, {"rte": _answers(70)}, ["rte"])
    assert (found.mean, found.low, found.high) == (0, 0, 0)


def test_the_interval_of_a_difference_is_that_of_paired_rows():
    found = difference({"rte": _answers(60)}, {"rte": _answers(50)}, ["rte"], draws=4000)
    assert found.mean == pytest.approx(10)
    # Ten rows of a hundred differ, all one way: the standard error is that of a share of 0.1.
    half = 1.645 * 100 * (0.1 * 0.9 / 100) ** 0.5
    assert found.high - found.low == pytest.approx(2 * half, rel=0.12)
    assert found.low > 0


def test_a_difference_that_goes_both_ways_has_an_interval_around_zero():
    labels = np.zeros(100)
    ours = Answers((np.arange(100) < 20.0)[None].astype(float), labels, (0,))
    theirs = Answers((np.arange(100) >= 80.0)[None].astype(float), labels, (0,))
    found = difference({"rte": ours}, {"rte": theirs}, ["rte"])
    assert found.mean == 0
    assert found.low < -3 and found.high > 3


def test_only_seeds_that_both_have_are_compared():
    ours, theirs = _answers(90, 50, seeds=(0, 1)), _answers(40, 10, seeds=(1, 2))
    assert difference({"rte": ours}, {"rte": theirs}, ["rte"]).mean == pytest.approx(50 - 40)


def test_tau_looks_within_bands():
    # Between the bands the order is the other way round.
    assert tau_in_bands([1, 2, 3, 4], [30, 40, 10, 20], ["a", "a", "b", "b"]) == pytest.approx(1)
    # Three pairs that agree, and one that does not.
    assert tau_in_bands([1, 2, 3, 1, 2], [1, 2, 3, 2, 1], [0, 0, 0, 1, 1]) == pytest.approx(0.5)


@pytest.mark.parametrize("bands", [[1, 2, 3], [1, 1, 1]])
def test_tau_is_none_where_nothing_can_be_ordered(bands):
    assert tau_in_bands([1, 1, 1], [1, 2, 3], bands) is None
