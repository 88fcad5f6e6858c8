"""Fidelity of regressions and rerankers: do values keep their order, among all rows and within a query's list?

The work is a rank correlation for each draw of the bootstrap, and one for each list.

Shape letters: N rows, C outputs, G lists.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.answers.fidelity import Fidelity
from workloads.craft.fidelity.bootstrap import Floats, RankCorrelation, draws, interval_of, ratio_interval


def of_values(
    teacher_NC: Floats, student_NC: Floats, lists_N: npt.NDArray[np.int64] | None = None, *, intervals: bool = True
) -> Fidelity:
    """Compare models that give numbers; of several outputs, each is compared by itself, and the mean is told.

    Args:
        teacher_NC: The teacher's values.
        student_NC: The student's.
        lists_N: The list of each row, by number; None if rows are in no lists. See :func:`lists_of`.
        intervals: Whether to compute intervals.
    """
    teacher_NC, student_NC = teacher_NC.astype(np.float64), student_NC.astype(np.float64)
    rows, outputs = teacher_NC.shape
    correlations = [RankCorrelation(teacher_NC[:, one], student_NC[:, one]) for one in range(outputs)]

    def spearman(weights_N: Floats) -> float:
        return float(np.mean([one(weights_N) for one in correlations]))

    found: dict[str, Any] = {"spearman": spearman(np.ones(rows))}
    ends: dict[str, Any] = {}
    if intervals:
        ends["spearman"] = interval_of(np.array([spearman(weights) for weights in draws(rows)]))
    taus_G = np.array([]) if lists_N is None else _taus(teacher_NC, student_NC, lists_N)
    if len(taus_G):
        found["kendall"] = float(taus_G.mean())
        if intervals:
            ends["kendall"] = ratio_interval(taus_G, np.ones(len(taus_G)), draws(len(taus_G)))
    return Fidelity(
        rows=rows,
        **{name: value for name, value in found.items() if np.isfinite(value)},
        interval={name: value for name, value in ends.items() if value is not None},
    )


def lists_of(texts: Sequence[tuple[Hashable, ...]]) -> npt.NDArray[np.int64] | None:
    """Number the lists of rows that share a text: the first of a pair, or else the second; None if none is shared.

    Args:
        texts: The texts of each row.
    """
    sides = max(map(len, texts), default=0)
    if sides < 2:
        return None
    for side in range(sides):
        numbers: dict[Hashable, int] = {}
        # A text of a pair may be empty, and so missing.
        found = np.array([numbers.setdefault(one[side : side + 1], len(numbers)) for one in texts], np.int64)
        if len(numbers) < len(texts):
            return found
    return None


def _taus(teacher_NC: Floats, student_NC: Floats, lists_N: npt.NDArray[np.int64]) -> Floats:
    """Return tau-b of each list in which the teacher's values differ; a student with equal values has 0 there."""
    from scipy.stats import kendalltau  # slow to import, and only needed here

    order = np.argsort(lists_N, kind="stable")
    found = []
    for rows in np.split(order, np.flatnonzero(np.diff(lists_N[order])) + 1):
        for theirs, own in zip(teacher_NC[rows].T, student_NC[rows].T, strict=True):
            if np.ptp(theirs) > 0:
                found.append(float(kendalltau(theirs, own).statistic) if np.ptp(own) > 0 else 0.0)
    return np.array(found)
