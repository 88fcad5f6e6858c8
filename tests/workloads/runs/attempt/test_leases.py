from __future__ import annotations

import threading
import time
import uuid

import pytest

from workloads.runs.attempt.leases import LeaseTable, lease


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_one_owner_holds_a_lease_until_it_is_given_back() -> None:
    table = LeaseTable(Clock())
    assert table.take("stage", "a", 10)
    assert not table.take("stage", "b", 10)
    assert table.take("other", "b", 10)
    table.give_back("stage", "b")  # b does not hold it
    assert not table.take("stage", "b", 10)
    table.give_back("stage", "a")
    assert table.take("stage", "b", 10)


def test_a_holder_that_gives_no_sign_loses_it_and_one_that_does_keeps_it() -> None:
    clock = Clock()
    table = LeaseTable(clock)
    assert table.take("stage", "a", 10)
    clock.now = 9
    assert table.take("stage", "a", 10)
    clock.now = 18
    assert not table.take("stage", "b", 10)
    clock.now = 19
    assert table.take("stage", "b", 10)
    assert not table.take("stage", "a", 10)


@pytest.mark.ray
def test_of_two_builders_the_second_waits_for_the_first_and_is_told(ray_cluster: None) -> None:
    name, inside, told = uuid.uuid4().hex, threading.Event(), threading.Event()
    order: list[str] = []

    def first() -> None:
        # Held for longer than it lasts without heartbeats.
        with lease(name, "a", expiry_seconds=1.0, beat_seconds=0.2):
            inside.set()
            assert told.wait(30)
            time.sleep(2)
            order.append("first")

    builder = threading.Thread(target=first)
    builder.start()
    assert inside.wait(30)
    with lease(name, "b", told.set):
        order.append("second")
    builder.join()
    assert order == ["first", "second"]


@pytest.mark.ray
def test_a_lease_is_given_back_when_building_fails(ray_cluster: None) -> None:
    name = uuid.uuid4().hex
    with pytest.raises(ValueError, match="broken"), lease(name, "a"):
        raise ValueError("broken")
    start = time.monotonic()
    with lease(name, "b"):
        assert time.monotonic() - start < 5
