"""Statistics of answers: the task average, paired differences with bootstrap intervals, rank correlations.

Shape letters: S seeds, N validation rows of a task, D draws of the bootstrap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau, rankdata

Array = npt.NDArray[np.float64]
AVERAGED = ("sst2", "mrpc", "rte", "stsb")
"""Tasks of the average; others are shown beside it."""
DRAWS, CONFIDENCE = 1000, 0.90


@dataclass(frozen=True)
class Difference:
    """Mean of a paired difference with its interval, in points."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


@dataclass(frozen=True, eq=False)
class Answers:
    """A model's answers to a task.

    Attributes:
        predicted_SN: Answers by seed, in the order of ``seeds``.
        labels_N: Classes from 0, or values.
        seeds: Seeds of fine-tuning.
    """

    predicted_SN: Array
    labels_N: Array
    seeds: tuple[int, ...]

    def only(self, seeds: Sequence[int]) -> Answers:
        """Keep the answers of some seeds."""
        places = [self.seeds.index(seed) for seed in seeds]
        return Answers(self.predicted_SN[places], self.labels_N, tuple(seeds))


def points(task: str, predicted_N: Array, labels_N: Array, counts_DN: Array) -> Array:
    """Score answers in points (0 to 100), with each row counted so many times: ``[D]``.

    SST-2 and RTE: accuracy. MRPC: mean of accuracy and F1 of class 1. CoLA: Matthews' correlation. STS-B: Spearman's
    rank correlation. A correlation that is not defined is 0.
    """
    if task == "stsb":
        return 100 * _spearman(predicted_N, labels_N, counts_DN)
    right, wrong = _class_counts(predicted_N, labels_N, counts_DN)
    rows = counts_DN.sum(1)
    accuracy = (right[1] + right[0]) / rows
    if task == "mrpc":
        named = 2 * right[1] + wrong[0] + wrong[1]
        f1 = np.divide(2 * right[1], named, out=np.zeros_like(named), where=named > 0)
        return np.asarray(50 * (accuracy + f1))
    if task == "cola":
        return np.asarray(100 * _matthews(right, wrong))
    return np.asarray(100 * accuracy)


def plain(task: str, answers: Answers) -> Array:
    """Score every seed on the rows as they are: ``[S]``, in points."""
    once = np.ones((1, len(answers.labels_N)))
    return np.array([points(task, one_N, answers.labels_N, once)[0] for one_N in answers.predicted_SN])


def average(answers: Mapping[str, Answers], tasks: Sequence[str] = AVERAGED) -> float | None:
    """Mean over the tasks of the mean over the seeds, in points; None where a task is missing."""
    if any(task not in answers for task in tasks):
        return None
    return float(np.mean([plain(task, answers[task]).mean() for task in tasks]))


def difference(
    ours: Mapping[str, Answers], others: Mapping[str, Answers], tasks: Sequence[str] = AVERAGED, draws: int = DRAWS
) -> Difference:
    """Compare the task averages of two models.

    The difference is paired by seed: only seeds that both have count. The interval comes from a bootstrap over the
    validation rows of each task; both models and all seeds are scored on the same draws.
    """
    draw = np.random.default_rng(0)
    means, drawn = [], []
    for task in tasks:
        seeds = [seed for seed in ours[task].seeds if seed in others[task].seeds]
        assert seeds, f"The two have no seed of {task} in common."
        pair = ours[task].only(seeds), others[task].only(seeds)
        labels_N = pair[0].labels_N
        rows = len(labels_N)
        counts_DN = draw.multinomial(rows, np.full(rows, 1 / rows), size=draws).astype(np.float64)
        once = np.ones((1, rows))
        means.append(_paired(task, *pair, once)[0])
        drawn.append(_paired(task, *pair, counts_DN))
    low, high = np.quantile(np.mean(drawn, axis=0), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Difference(float(np.mean(means)), float(low), float(high))


def tau_in_bands(scores: Sequence[float], qualities: Sequence[float], bands: Sequence[object]) -> float | None:
    """Kendall's tau of scores and qualities (both: the higher, the better) within bands.

    The mean over the bands, weighted by their pairs; None where no band has two different values of both.
    """
    found, pairs = [], []
    for band in dict.fromkeys(bands):
        members = [index for index, one in enumerate(bands) if one == band]
        if len(members) < 2:
            continue
        tau = kendalltau([scores[i] for i in members], [qualities[i] for i in members]).statistic
        if np.isfinite(tau):
            found.append(float(tau))
            pairs.append(len(members) * (len(members) - 1) // 2)
    return float(np.average(found, weights=pairs)) if found else None


def _paired(task: str, ours: Answers, others: Answers, counts_DN: Array) -> Array:
    labels_N = ours.labels_N
    differences = [
        points(task, mine_N, labels_N, counts_DN) - points(task, theirs_N, labels_N, counts_DN)
        for mine_N, theirs_N in zip(ours.predicted_SN, others.predicted_SN, strict=True)
    ]
    return np.asarray(np.mean(differences, axis=0))


def _class_counts(predicted_N: Array, labels_N: Array, counts_DN: Array) -> tuple[list[Array], list[Array]]:
    """Count right and wrong answers of class 0 and 1, by the class that was predicted."""
    right = [counts_DN @ ((predicted_N == one) & (labels_N == one)) for one in (0, 1)]
    wrong = [counts_DN @ ((predicted_N == one) & (labels_N != one)) for one in (0, 1)]
    return right, wrong


def _matthews(right: list[Array], wrong: list[Array]) -> Array:
    product = (right[1] + wrong[1]) * (right[1] + wrong[0]) * (right[0] + wrong[1]) * (right[0] + wrong[0])
    found = right[1] * right[0] - wrong[1] * wrong[0]
    return np.divide(found, np.sqrt(product), out=np.zeros_like(product), where=product > 0)


def _spearman(predicted_N: Array, labels_N: Array, counts_DN: Array) -> Array:
    """Correlate the ranks of rows that are repeated so many times."""
    x_DN, y_DN = (_ranks(values_N, counts_DN) for values_N in (predicted_N, labels_N))
    rows_D1 = counts_DN.sum(1, keepdims=True)
    x_DN, y_DN = (one - (one * counts_DN).sum(1, keepdims=True) / rows_D1 for one in (x_DN, y_DN))
    product = (counts_DN * x_DN**2).sum(1) * (counts_DN * y_DN**2).sum(1)
    found = (counts_DN * x_DN * y_DN).sum(1)
    return np.asarray(np.divide(found, np.sqrt(product), out=np.zeros_like(product), where=product > 0))


def _ranks(values_N: Array, counts_DN: Array) -> Array:
    """Rank rows of given multiplicities; equal values share the mean of their ranks."""
    groups_N = rankdata(values_N, "dense").astype(int) - 1
    counts_DG = np.zeros((len(counts_DN), groups_N.max() + 1))
    for row, group in enumerate(groups_N):
        counts_DG[:, group] += counts_DN[:, row]
    return (np.cumsum(counts_DG, axis=1) - counts_DG + (counts_DG + 1) / 2)[:, groups_N]
