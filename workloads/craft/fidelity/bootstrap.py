"""Bootstrap intervals: texts are drawn anew with replacement, :data:`REPLICATES` times.

A draw is the number of times that each text is in it. So a mean costs a product of matrices, and a rank correlation
one pass over its pairs of values; nothing is copied.

Shape letters: R replicates, U texts, P values.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from workloads.answers.fidelity import CONFIDENCE

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]

REPLICATES = 200
"""Draws; the ends of an interval are the fifth values from either end."""
_SEED = 11


def draws(texts: int) -> Floats:
    """Draw texts with replacement: how often each is in each draw, ``[R, U]``; the same in every call."""
    draw = np.random.default_rng([_SEED, texts])
    return draw.multinomial(texts, np.full(texts, 1 / texts), size=REPLICATES).astype(np.float64)


def interval_of(values_R: Floats) -> Interval | None:
    """Return the interval of a figure from its values in the draws, those that are undefined left out."""
    found = values_R[np.isfinite(values_R)]
    if not len(found):
        return None
    low, high = np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def ratio_interval(sums_U: Floats, counts_U: Floats, draws_RU: Floats) -> Interval | None:
    """Return the interval of a mean: of the sum over all texts by the count over all texts."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return interval_of((draws_RU @ sums_U) / (draws_RU @ counts_U))


class RankCorrelation:
    """Spearman's correlation of two lists of values, with a weight for each pair of values.

    With whole weights it is the correlation of the lists in which each pair occurs as often as its weight says.

    Args:
        one_P: Values.
        other_P: As many values.
    """

    def __init__(self, one_P: Floats, other_P: Floats) -> None:
        # Equal values share a number, and so a rank.
        self._codes = [np.unique(values, return_inverse=True)[1].reshape(-1) for values in (one_P, other_P)]

    def __call__(self, weights_P: Floats) -> float:
        """Compute the correlation; NaN if all values of a list are equal."""
        total = weights_P.sum()
        if total <= 0:
            return float("nan")
        ranks = []
        for codes in self._codes:
            mass = np.bincount(codes, weights_P)
            rank = (np.cumsum(mass) - mass / 2)[codes]
            ranks.append(rank - (weights_P @ rank) / total)
        one, other = ranks
        spread = np.sqrt((weights_P @ one**2) * (weights_P @ other**2))
        return float((weights_P * one) @ other / spread) if spread > 0 else float("nan")
