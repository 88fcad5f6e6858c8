"""CPU-seconds of a training step of the demo's SuperLMs, beside its floor and beside another checkout's.

    python -m benchmarks.training_step [--against CHECKOUT] [--threads 2] [--rounds 5]

Timed are steps of 16 x 64 tokens of each of the three SuperLMs alone, each with a teacher forward of its own, and of
all three together (the sandwich, no dropout, AdamW: the demo's settings). Each checkout has a process; the processes
take turns, in an order that changes with each round, and the ratios are medians of the rounds' ratios.

The floor of a step is its matrix products at the rate of one large product, measured in the same run, and one passage
of the update over weights, gradients and moments at the rate of a large copy. The shares of a step are those of kinds
of operations, by PyTorch's profiler; the rest is Python and small operations.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.demo_scene import DemoScene
from benchmarks.record import record
from benchmarks.step_clock import MARK, STEPS
from workloads.craft import products
from workloads.craft.signals import Batch
from workloads.craft.training import GroupTrainer

BAR = 0.8
_ROOT = Path(__file__).resolve().parents[1]
_UPDATE_PASSES = 4 + 3 + 3
"""Passages over a flat tensor: the update reads four and writes three; zeroing, norm and clipping are one each."""
_KINDS = {
    "linear layers": ("_linear_pointwise", "addmm", "aten::mm"),
    "attention": ("scaled_dot_product",),
    "relations": ("bmm", "log_softmax", "aten::exp"),
    "activations and norms": ("gelu", "layer_norm"),
    "update": ("adamw", "vector_norm", "foreach_zero", "aten::zero_", "aten::fill_"),
    "sums, copies, residuals": (
        "aten::copy_",
        "aten::add",
        "aten::mul",
        "aten::sum",
        "aten::sub",
        "index",
        "aten::cat",
    ),
}


class Clock:
    """The process that times one checkout."""

    def __init__(self, checkout: Path, threads: int, stack: ExitStack) -> None:
        environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-P", str(_ROOT / "benchmarks/step_clock.py"), str(threads)]
        pipe = subprocess.PIPE
        self._process = stack.enter_context(
            subprocess.Popen(command, cwd=checkout, env=environment, stdin=pipe, stdout=pipe, text=True)
        )
        self.kinds: list[str] = self._read()

    def seconds(self, kind: str) -> float:
        """Return the CPU-seconds of a step."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{kind}\n")
        self._process.stdin.flush()
        return float(self._read()["cpu"])

    def _read(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
        raise RuntimeError("The process that times a checkout ended without an answer.")


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="Root of another checkout, such as one of an earlier commit.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    checkouts = [_ROOT, *([options.against.resolve()] if options.against else [])]
    seconds = _alternating(checkouts, options.threads, options.rounds)
    torch.set_num_threads(options.threads)
    scene = DemoScene()
    with closing(scene.batches()) as source:
        batches = list(itertools.islice(source, STEPS + 1))
    peak, bandwidth = _flops_a_second(), _bytes_a_second()
    steps: dict[str, dict[str, Any]] = {}
    for kind, (ours, *theirs) in seconds.items():
        spaces = [space for space in scene.spaces if kind in ("together", space.name)]
        trainer = scene.trainer(spaces, 160, order=scene.order)
        trainer.step(0, batches[0])
        flops = _flops(trainer, batches[1:])
        moved = sum(
            4 * _UPDATE_PASSES * flat.numel() for one in trainer.members.values() for flat in one.superlm.flat.flats
        )
        steps[kind] = {
            "cpu_seconds": statistics.median(ours),
            "floor_cpu_seconds": flops / peak + moved / bandwidth,
            "gflop": flops / 1e9,
            "update_megabytes": moved / 1e6,
            "shares": _shares(trainer, batches[1:]),
        }
        if theirs:
            steps[kind]["against_cpu_seconds"] = statistics.median(theirs[0])
            steps[kind]["ratio"] = statistics.median(a / b for a, b in zip(ours, theirs[0], strict=True))
    together = seconds["together"]
    ratios = sorted(a / b for a, b in zip(*together, strict=True)) if options.against else None
    record(
        "training_step",
        steps["together"]["ratio"] if ratios else steps["together"]["cpu_seconds"],
        "CPU-seconds of a step of the three SuperLMs together"
        + (" over those of the other checkout" if ratios else ""),
        BAR if ratios else None,
        ratios or sorted(together[0]),
        "python -m benchmarks.training_step" + (" --against CHECKOUT" if ratios else ""),
        against=_commit(options.against) if options.against else None,
        threads=options.threads,
        gflop_a_cpu_second=peak / 1e9,
        gigabytes_a_cpu_second=bandwidth / 1e9,
        together_over_apart=steps["together"]["cpu_seconds"]
        / sum(one["cpu_seconds"] for kind, one in steps.items() if kind != "together"),
        together_over_apart_by_flops=steps["together"]["gflop"]
        / sum(one["gflop"] for kind, one in steps.items() if kind != "together"),
        steps=steps,
    )


def _alternating(checkouts: Sequence[Path], threads: int, rounds: int) -> dict[str, list[list[float]]]:
    """Return by kind, for each checkout, the CPU-seconds of a step in each round."""
    with ExitStack() as stack:
        clocks = [Clock(checkout, threads, stack) for checkout in checkouts]
        seconds: dict[str, list[list[float]]] = {kind: [[] for _ in clocks] for kind in clocks[0].kinds}
        for kind, number in itertools.product(seconds, range(rounds)):
            for index in range(len(clocks))[:: 1 if number % 2 == 0 else -1]:
                seconds[kind][index].append(clocks[index].seconds(kind))
    return seconds


def _commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _flops(trainer: GroupTrainer, batches: Sequence[Batch]) -> float:
    """Count the operations of a step's matrix products, two for a multiply-accumulate."""
    counter = FlopCounterMode(
        display=False,
        custom_mapping={
            torch.ops.mkldnn._linear_pointwise: lambda x, weight, *_, **__: 2 * math.prod(x) * weight[0],
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, *_, **__: 4 * math.prod(q) * k[-2],
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
                lambda grad, q, k, *_, **__: 10 * math.prod(q) * k[-2]
            ),
        },
    )
    with counter:
        for step, batch in enumerate(batches, start=1):
            trainer.step(step, batch)
    return counter.get_total_flops() / len(batches)


def _shares(trainer: GroupTrainer, batches: Sequence[Batch]) -> dict[str, float]:
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        started = time.perf_counter()
        for step, batch in enumerate(batches, start=1):
            trainer.step(step, batch)
        whole = time.perf_counter() - started
    spent: Counter[str] = Counter()
    for event in profiled.key_averages():
        kind = next((kind for kind, names in _KINDS.items() if any(name in event.key for name in names)), None)
        if kind is not None:
            spent[kind] += event.self_cpu_time_total / 1e6
    shares = {kind: round(spent[kind] / whole, 3) for kind in _KINDS}
    return shares | {"the rest": round(1 - sum(shares.values()), 3)}


def _flops_a_second() -> float:
    """Return the rate of one large product, in operations a CPU-second."""
    x, weight = torch.randn(1024, 1536), torch.randn(1536, 1536)
    with torch.no_grad():
        return 2 * x.numel() * len(weight) / _least_cpu_seconds(lambda: products.linear(x, weight))


def _bytes_a_second() -> float:
    """Return the bytes that a large copy reads and writes in a CPU-second."""
    source = torch.zeros(1 << 25)
    into = torch.empty_like(source)
    return 2 * 4 * source.numel() / _least_cpu_seconds(lambda: into.copy_(source))


def _least_cpu_seconds(run: Callable[[], Tensor], repeats: int = 20) -> float:
    def once() -> float:
        started = time.process_time()
        for _ in range(5):
            run()
        return (time.process_time() - started) / 5

    return min(once() for _ in range(repeats))


if __name__ == "__main__":
    main()
