from __future__ import annotations

import pytest
from scipy import stats

from workloads.runs.search.student_t import MOST_FREEDOM, quantile, tail


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 15, 128, MOST_FREEDOM])
@pytest.mark.parametrize("chance", [0.4, 0.00135, 1e-6])
def test_it_is_students_t(freedom: int, chance: float) -> None:
    expected = stats.t.isf(chance, freedom)
    assert quantile(chance, freedom) == pytest.approx(expected, rel=1e-4)
    assert tail(expected, freedom) == pytest.approx(chance, rel=1e-4)


def test_with_more_freedom_it_is_a_little_larger() -> None:
    assert 1 <= quantile(1e-5, 10**6) / stats.t.isf(1e-5, 10**6) < 1.03
