"""Latency measurement of a student and its teacher: in alternating blocks of one process, twice."""

from __future__ import annotations

import gc
import importlib.metadata
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import torch

from workloads.answers.latency import LatencyMeasure, summarise
from workloads.craft.latency.cores import device_name, held_to_cores
from workloads.craft.latency.runtimes import Forward, forget_compiled, make_ready
from workloads.craft.whole import WholeModel
from workloads.spec.budgets import LatencyTarget

Opener = Callable[[], WholeModel]
"""Callable that loads a fresh model."""

REPEATS = 2
_BLOCKS = 10
_LIBRARIES = ("torch", "transformers", "onnxruntime")


def measure(target: LatencyTarget, teacher: Opener, student: Opener) -> LatencyMeasure:
    """Measure a student and its teacher on this machine, as ``target`` asks.

    Each of two repeats loads both models afresh, warms them up, and times them in alternating blocks. So a change of
    the machine's speed affects both. See ``docs/costs.md`` for the definitions.
    """
    with tempfile.TemporaryDirectory(prefix="stillroom-latency-") as work, held_to_cores(target.threads):
        folders = [Path(work) / name for name in ("teacher", "student")]
        repeats = []
        for _ in range(REPEATS):
            forget_compiled(target)
            forwards = [_ready(target, *one) for one in zip((teacher, student), folders, strict=True)]
            repeats.append(_time_by_turns(forwards, target))
    teachers, students = (summarise(runs) for runs in zip(*repeats, strict=True))
    return LatencyMeasure(
        target=target,
        p50_ms=students.p50_ms,
        p95_ms=students.p95_ms,
        spread=students.spread,
        repeats_p50_ms=list(students.repeats_p50_ms),
        agrees=students.agrees and teachers.agrees,
        teacher_p50_ms=teachers.p50_ms,
        teacher_repeats_p50_ms=list(teachers.repeats_p50_ms),
        speed_up=teachers.p50_ms / students.p50_ms,
        device=device_name(target),
        versions=library_versions(),
        measured_at=now(),
    )


def time_alone(target: LatencyTarget, model: Opener, folder: Path) -> list[float]:
    """Load and time one model, and return its runs in milliseconds; ``folder`` keeps its ONNX file, if it needs one."""
    with held_to_cores(target.threads):
        forget_compiled(target)
        return _time_by_turns([_ready(target, model, folder)], target)[0]


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that affect latency."""
    return {name: importlib.metadata.version(name) for name in _LIBRARIES}


def now() -> str:
    """Return the current UTC time in the format of :class:`LatencyMeasure`."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _ready(target: LatencyTarget, model: Opener, folder: Path) -> Forward:
    folder.mkdir(parents=True, exist_ok=True)
    return make_ready(model(), target, folder)


def _time_by_turns(forwards: Sequence[Forward], target: LatencyTarget) -> list[list[float]]:
    for forward in forwards:
        for _ in range(target.warm_ups):
            forward()
    times: list[list[float]] = [[] for _ in forwards]
    turns = list(zip(forwards, times, strict=True))
    with _undisturbed(target):
        for block in range(_BLOCKS):
            runs = (block + 1) * target.runs // _BLOCKS - block * target.runs // _BLOCKS
            for forward, found in turns if block % 2 == 0 else reversed(turns):
                forward()  # reloads the caches that the other model has filled
                found.extend(_milliseconds(forward) for _ in range(runs))
    return times


def _milliseconds(forward: Forward) -> float:
    start = time.perf_counter()
    forward()
    return 1000 * (time.perf_counter() - start)


@contextmanager
def _undisturbed(target: LatencyTarget) -> Iterator[None]:
    """Context of a timing: no garbage collection, and an error if PyTorch compiles."""
    compiled = target.runtime == "compiled"
    gc.collect()
    collects = gc.isenabled()
    gc.disable()
    try:
        with torch.compiler.set_stance("fail_on_recompile") if compiled else nullcontext():
            yield
    finally:
        if collects:
            gc.enable()
