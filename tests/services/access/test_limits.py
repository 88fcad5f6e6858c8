"""The rate limit, on a clock that is set by hand."""

import pytest

from services.access import limits as limits_module
from services.access.limits import RateLimit


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.at = 100.0

    def __call__(self):
        return self.at


def test_a_burst_passes_then_as_many_as_drip_in():
    clock = Clock()
    limit = RateLimit(2, clock)
    assert [limit.take("a") for _ in range(4)] == [0.0] * 4
    assert limit.take("a") == pytest.approx(0.5)
    clock.at += 0.5
    assert limit.take("a") == 0.0
    assert limit.take("a") > 0


def test_a_refused_request_takes_nothing():
    clock = Clock()
    limit = RateLimit(1, clock)
    while limit.take("a") == 0:
        pass
    for _ in range(10):
        assert limit.take("a") == pytest.approx(1.0)


def test_each_key_has_its_own():
    limit = RateLimit(0.5, Clock())
    assert [limit.take("a"), limit.take("b")] == [0.0, 0.0]
    assert limit.take("a") > 0


def test_zero_is_no_limit():
    limit = RateLimit(0, Clock())
    assert not any(limit.take("a") for _ in range(1000))


def test_buckets_that_are_full_again_are_forgotten(monkeypatch):
    monkeypatch.setattr(limits_module, "_SWEEP_AT", 3)
    clock = Clock()
    limit = RateLimit(1, clock)
    for name in "abc":
        limit.take(name)
    clock.at += 10
    limit.take("d")
    assert set(limit._buckets) == {"d"}
