"""The Pareto front of candidates. Light to import."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TypeVar

T = TypeVar("T")


def pareto_front(candidates: Sequence[T], costs: Callable[[T], tuple[float, float]]) -> list[T]:
    """Give the candidates that no other one beats: none is better in one figure without being worse in the other.

    Args:
        candidates: In any order.
        costs: Two figures of a candidate, of which less is better: a cost and a loss, or two costs. Not NaN.

    Returns:
        The front, by the first figure; candidates alike in both stay together, in the order given.
    """
    rated = sorted(((costs(candidate), candidate) for candidate in candidates), key=lambda item: item[0])
    assert not any(math.isnan(figure) for figures, _ in rated for figure in figures)
    front: list[T] = []
    least = math.inf
    for (_, second), alike in groupby(rated, key=lambda item: item[0]):
        if second < least or not front:
            front += [candidate for _, candidate in alike]
            least = second
    return front
