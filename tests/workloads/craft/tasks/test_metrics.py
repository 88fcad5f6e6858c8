"""Metrics against scikit-learn and cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, matthews_corrcoef

from workloads.craft.tasks.metrics import METRICS, accuracy, f1, matthews, scores, spearman


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_scores_of_classes_are_those_of_scikit_learn(classes: int) -> None:
    draw = np.random.default_rng(classes)
    labels = draw.integers(0, classes, 200).astype(np.float64)
    predicted = np.where(draw.random(200) < 0.6, labels, draw.integers(0, classes, 200)).astype(np.float64)
    average = "binary" if classes == 2 else "macro"
    assert f1(predicted, labels) == pytest.approx(f1_score(labels, predicted, average=average))
    assert matthews(predicted, labels) == pytest.approx(matthews_corrcoef(labels, predicted))
    assert accuracy(predicted, labels) == np.mean(predicted == labels)


def test_rank_correlation_is_of_ranks_with_equal_values_too() -> None:
    assert spearman(np.array([1.0, 3, 2, 4]), np.array([10.0, 20, 30, 40])) == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert spearman(np.array([5.0, 5, 7]), np.array([1.0, 2, 3])) == pytest.approx(1.5 / np.sqrt(1.5 * 2))
    labels = np.random.default_rng(0).integers(0, 6, 300) / 2
    assert spearman(np.exp(labels), labels) == pytest.approx(1.0)
    assert spearman(-labels, labels) == pytest.approx(-1.0)


def test_a_confusion_worked_by_hand() -> None:
    labels, predicted = np.array([1.0, 1, 1, 0, 0, 0, 0, 0]), np.array([1.0, 1, 0, 1, 0, 0, 0, 0])  # 2 1 / 1 4
    assert accuracy(predicted, labels) == 6 / 8
    assert f1(predicted, labels) == pytest.approx(4 / 6)
    assert matthews(predicted, labels) == pytest.approx((2 * 4 - 1 * 1) / np.sqrt(3 * 3 * 5 * 5))


@pytest.mark.parametrize("metric", ["f1", "matthews", "spearman"])
def test_one_answer_for_all_scores_nothing(metric: str) -> None:
    assert METRICS[metric](np.zeros(4), np.array([0.0, 1, 0, 1])) == 0


@pytest.mark.parametrize("classes", [2, 3])
def test_f1_is_given_by_its_average(classes: int) -> None:
    draw = np.random.default_rng(classes)
    labels, predicted = (draw.integers(0, classes, 100).astype(np.float64) for _ in range(2))
    found = scores(predicted, labels, classes)
    assert found["f1_macro"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert ("f1_binary" in found) == (classes == 2)
    if classes == 2:
        assert found["f1_binary"] == pytest.approx(f1_score(labels, predicted))
    assert found["accuracy"] == np.mean(predicted == labels)


def test_both_averages_of_a_confusion_worked_by_hand() -> None:
    labels, predicted = np.array([1.0, 1, 1, 0, 0]), np.array([1.0, 1, 0, 0, 1])
    # Of class 1: precision 2/3, recall 2/3; of class 0: precision 1/2, recall 1/2.
    found = scores(predicted, labels, 2)
    assert (found["f1_binary"], found["f1_macro"]) == (pytest.approx(2 / 3), pytest.approx((2 / 3 + 1 / 2) / 2))
    assert scores(np.array([1.0, 3, 2]), np.array([1.0, 2, 3]), 0) == {"spearman": pytest.approx(0.5)}
