"""The rate limit, on a clock that is set by hand."""

import pytest

from services.access import limits as limits_module
from services.access.limits import RateLimit, address_bucket


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


def test_asking_how_long_to_wait_takes_nothing():
    clock = Clock()
    limit = RateLimit(1, clock)
    assert [limit.wait("a") for _ in range(9)] == [0.0] * 9
    assert [limit.take("a"), limit.take("a")] == [0.0, 0.0]
    clock.at += 0.25
    assert limit.wait("a") == pytest.approx(0.75)
    assert RateLimit(0, clock).wait("a") == 0.0


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("testclient", "testclient"),
    ],
)
def test_a_machine_with_a_network_of_its_own_has_one_bucket(address, expected):
    assert address_bucket(address) == expected


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
