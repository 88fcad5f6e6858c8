"""Metrics of fine-tuned models; higher is better, and an undefined score is 0.

Shape letters: N rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
"""Classes as whole numbers from 0, or the floats of a regression."""


def accuracy(predicted_N: Values, labels_N: Values) -> float:
    """Return the share of rows that are predicted correctly."""
    return float(np.mean(predicted_N == labels_N))


def f1(predicted_N: Values, labels_N: Values) -> float:
    """Compute the F1 of class 1 if there are two classes, else the mean over all classes."""
    classes = int(max(predicted_N.max(), labels_N.max())) + 1
    return f1_binary(predicted_N, labels_N) if classes <= 2 else f1_macro(predicted_N, labels_N)


def f1_binary(predicted_N: Values, labels_N: Values) -> float:
    """Compute the F1 of class 1."""
    return _f1_of(1, predicted_N, labels_N)


def f1_macro(predicted_N: Values, labels_N: Values) -> float:
    """Compute the mean F1 of the classes that occur among the labels."""
    return float(np.mean([_f1_of(one, predicted_N, labels_N) for one in np.unique(labels_N)]))


def matthews(predicted_N: Values, labels_N: Values) -> float:
    """Compute Matthews' correlation, for any number of classes (Gorodkin 2004)."""
    classes = int(max(predicted_N.max(), labels_N.max())) + 1
    predicted, labels = (
        np.bincount(given.astype(np.int64), minlength=classes).astype(np.float64) for given in (predicted_N, labels_N)
    )
    rows, right = len(labels_N), float(np.sum(predicted_N == labels_N))
    spread = (rows**2 - predicted @ predicted) * (rows**2 - labels @ labels)
    return float((right * rows - predicted @ labels) / np.sqrt(spread)) if spread > 0 else 0.0


def spearman(predicted_N: Values, labels_N: Values) -> float:
    """Compute Spearman's rank correlation; equal values share the mean of their ranks."""
    from scipy.stats import spearmanr  # slow to import, and only needed here

    if np.ptp(predicted_N) == 0 or np.ptp(labels_N) == 0:
        return 0.0
    found = float(spearmanr(predicted_N, labels_N).statistic)
    return found if math.isfinite(found) else 0.0


METRICS: dict[str, Callable[[Values, Values], float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews": matthews,
    "spearman": spearman,
}
"""Metrics by their names in a task."""


def scores(predicted_N: Values, labels_N: Values, classes: int) -> dict[str, float]:
    """Compute all metrics that apply: ``spearman`` for a regression, else the others, F1 named by its average.

    Args:
        predicted_N: Predicted classes from 0, or values.
        labels_N: True classes from 0, or values.
        classes: Number of classes of the task, 0 for a regression.
    """
    if classes == 0:
        return {"spearman": spearman(predicted_N, labels_N)}
    binary = {"f1_binary": f1_binary(predicted_N, labels_N)} if classes == 2 else {}
    return {
        "accuracy": accuracy(predicted_N, labels_N),
        **binary,
        "f1_macro": f1_macro(predicted_N, labels_N),
        "matthews": matthews(predicted_N, labels_N),
    }


def _f1_of(one: int, predicted_N: Values, labels_N: Values) -> float:
    right = np.sum((predicted_N == one) & (labels_N == one))
    named = np.sum(predicted_N == one) + np.sum(labels_N == one)
    return float(2 * right / named) if named else 0.0
