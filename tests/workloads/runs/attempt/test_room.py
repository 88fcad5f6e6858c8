"""Room on a real Ray: work waits for taken resources, and starts within a reservation."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import pytest
import ray

from cluster import room
from cluster.room import NotStartedError, Reservation, reserved, run_in, start_in
from cluster.sizing import read_cluster, worker_needs

pytestmark = pytest.mark.ray

BOTH = worker_needs(2)


def test_what_others_hold_is_waited_for_and_told_with_the_time(ray_cluster: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(room, "_QUIET_SECONDS", 0.0)
    told: list[str | None] = []
    other = Reservation([worker_needs(1)])
    assert other.granted(10)
    timer = threading.Timer(1.5, other.release)
    timer.start()
    began = time.monotonic()
    with reserved([BOTH], told.append) as group:
        assert time.monotonic() - began > 1
        assert run_in(group, BOTH, os.getpid) != os.getpid()
    assert told[1:] == [None] and told[0] is not None
    assert told[0].startswith("waiting since ") and told[0].endswith(" UTC for 2 CPU, taken by other work")
    monkeypatch.undo()
    with reserved([worker_needs(1)] * 2, told.append):
        assert len(told) == 2, "all is free again"


def test_a_worker_that_does_not_start_is_given_up_with_the_reason(ray_cluster: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(room, "START_SECONDS", 1.0)
    with reserved([BOTH], print) as group, pytest.raises(NotStartedError, match="Ray started no worker"):
        start_in(group, BOTH, _Slow)


def test_what_no_node_can_hold_any_more_is_given_up(ray_cluster: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(room, "START_SECONDS", 0.5)
    monkeypatch.setattr(room, "_LOOK_SECONDS", 0.1)
    with (
        pytest.raises(NotStartedError, match="No node that is up can hold 2 x \\(2 CPU\\) any more"),
        reserved([BOTH] * 2, print),
    ):
        pass


def test_a_reservation_on_a_node_is_there(ray_cluster: str) -> None:
    (node,) = read_cluster().nodes
    assert (node.cpus, node.gpus) == (2, 0)
    with reserved([BOTH], print, node.id) as group:
        assert run_in(group, BOTH, _node) == node.id


def _node() -> str:
    return str(ray.get_runtime_context().get_node_id())


class _Slow:
    def __init__(self) -> None:
        time.sleep(60)
