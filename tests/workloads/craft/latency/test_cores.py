from __future__ import annotations

import os
import threading

import pytest
import torch

from workloads.craft.latency.cores import check_cores, device_name, held_to_cores, usable_cores
from workloads.spec.budgets import LatencyTarget
from workloads.spec.errors import InputError


def test_cores_and_threads_are_held_and_given_back() -> None:
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    with held_to_cores(1) as held:
        assert os.sched_getaffinity(0) == held
        assert len(held) == 1
        assert held <= cores
        assert torch.get_num_threads() == 1
    assert (os.sched_getaffinity(0), torch.get_num_threads()) == (cores, threads)


def test_they_are_given_back_when_measuring_fails() -> None:
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), held_to_cores(1):
        raise ZeroDivisionError
    assert (os.sched_getaffinity(0), torch.get_num_threads()) == (cores, threads)


def test_threads_that_are_started_meanwhile_are_held_too() -> None:
    seen: list[set[int]] = []
    with held_to_cores(1) as held:
        thread = threading.Thread(target=lambda: seen.append(os.sched_getaffinity(0)))
        thread.start()
        thread.join()
    assert seen == [held]


def test_more_threads_than_cores_are_refused_by_the_targets_name() -> None:
    have = len(usable_cores())
    check_cores(LatencyTarget(name="a", threads=have), "latency_targets.a")
    with pytest.raises(InputError, match=f"{have} cores") as caught:
        check_cores(LatencyTarget(name="a", threads=have + 1), "latency_targets.a")
    assert caught.value.errors[0].field == "latency_targets.a.threads"
    assert "fewer threads" in caught.value.errors[0].remedy


def test_the_device_is_named() -> None:
    assert device_name(LatencyTarget(name="a")).strip()
