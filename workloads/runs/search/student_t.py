"""Student's t distribution, for whole degrees of freedom; numpy has none, and scipy is a large dependency for it."""

from __future__ import annotations

import functools
import math

MOST_FREEDOM = 200
"""Degrees of freedom beyond this count as this many; a quantile is then up to 3 % larger than it need be."""


def tail(t: float, freedom: int) -> float:
    """Give the chance of a value above ``t``, for ``t`` of 0 and more.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.7.3 and 26.7.4.
    """
    angle = math.atan(t / math.sqrt(freedom))
    sine, square = math.sin(angle), math.cos(angle) ** 2
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for power in range(1 + odd, freedom, 2):
        total += term
        term *= square * power / (power + 1)
    within = (angle + sine * total) * 2 / math.pi if odd else sine * total
    return (1 - within) / 2


@functools.lru_cache(maxsize=65536)
def quantile(chance: float, freedom: int) -> float:
    """Give the value that is exceeded with a chance between 0 and a half."""
    freedom = min(freedom, MOST_FREEDOM)
    low, high = 0.0, 1.0
    while tail(high, freedom) > chance:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle, freedom) > chance else (low, middle)
    return high
