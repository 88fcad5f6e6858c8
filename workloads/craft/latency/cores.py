"""The measuring device: its name, its cores, and pinning a measurement to some of them."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from workloads.spec.budgets import LatencyTarget
from workloads.spec.errors import InputError

_LOOK_SECONDS = 0.3


def device_name(target: LatencyTarget) -> str:
    """Return the model name of the target's kind of device: the GPU or the CPU."""
    if target.device == "cuda":
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def usable_cores() -> set[int]:
    """Return the CPU cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def check_cores(target: LatencyTarget, field: str) -> None:
    """Refuse a target with more threads than the cores that this process may use.

    Raises:
        InputError: There are too few cores.
    """
    have = len(usable_cores())
    if target.threads > have:
        raise InputError.of(
            f"{field}.threads",
            f"On the node {platform.node()} a process may use {have} cores; the target needs {target.threads}.",
            "Use fewer threads, or add a node with more cores.",
        )


@contextmanager
def held_to_cores(threads: int) -> Iterator[set[int]]:
    """Pin this thread, the threads that it starts, and PyTorch to ``threads`` cores; restore all afterwards.

    It takes the least loaded cores, on different physical cores first. Threads that already run are not moved: the
    measuring process is fresh, and its other threads (Ray's) should run on other cores.
    """
    before = torch.get_num_threads()
    allowed = usable_cores()
    cores = _quietest(threads, allowed)
    try:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)
        yield cores
    finally:
        torch.set_num_threads(before)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, allowed)


def _quietest(count: int, allowed: set[int]) -> set[int]:
    load = dict(enumerate(psutil.cpu_percent(_LOOK_SECONDS, percpu=True)))
    first: list[int] = []
    siblings: list[int] = []
    seen: set[str] = set()
    for core in sorted(allowed, key=lambda core: (load.get(core, 0.0), core)):
        physical = _physical(core)
        (siblings if physical in seen else first).append(core)
        seen.add(physical)
    assert count <= len(allowed), (count, allowed)
    return set((first + siblings)[:count])


def _physical(core: int) -> str:
    """Return the list of hardware threads on the same physical core, as Linux writes it; it identifies that core."""
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    return path.read_text().strip() if path.exists() else str(core)
