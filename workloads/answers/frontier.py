"""Pareto front of candidates. Light to import."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def pareto_front(candidates: Sequence[T], figures: Callable[[T], tuple[float, ...]]) -> list[T]:
    """Return the candidates that no other one dominates (as good in all figures and better in one).

    Args:
        candidates: Candidates in any order.
        figures: Returns a candidate's figures, such as costs and a loss; less is better, and none may be NaN.

    Returns:
        The front, sorted by the figures in their order; candidates with equal figures stay, in the order given.
    """
    rated = sorted(((figures(candidate), candidate) for candidate in candidates), key=lambda item: item[0])
    assert not any(math.isnan(figure) for found, _ in rated for figure in found)
    front: list[tuple[tuple[float, ...], T]] = []
    for found, candidate in rated:
        # A dominating candidate sorts before the other; with two figures, only the front's last member can dominate.
        others = front[-1:] if len(found) == 2 else front
        if not any(_dominates(other, found) for other, _ in others):
            front.append((found, candidate))
    return [candidate for _, candidate in front]


def times_dominated(figures: Sequence[tuple[float, ...]]) -> list[int]:
    """Count the others that dominate each, in the sense of :func:`pareto_front`; 0 for the members of the front."""
    table = np.array(figures, float)
    return [int(((table <= row).all(1) & (table < row).any(1)).sum()) for row in table]


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
