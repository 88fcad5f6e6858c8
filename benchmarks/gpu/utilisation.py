"""How much of a card a training step uses: achieved over peak, by sub-space, teacher and rows of a step.

Counted are the multiply-accumulates of whole forwards, one of the teacher and three for each subnet (its backward
counts as two), times 2. The subnets are counted as they are trained. The objective's own products are not counted.
Relations need only the projections of the last layer, so that its other parts are not computed; ``tflops_computed``
leaves them out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks.gpu.peaks import share_of_peak
from benchmarks.gpu.sizes import Sizes
from benchmarks.gpu.subjects import random_batch, random_teacher, trainer_of, wait_for
from workloads.craft.signals import Batch, Wants
from workloads.craft.superlm import SuperLM
from workloads.craft.teacher import Teacher
from workloads.craft.training import GroupTrainer
from workloads.shapes.architecture import Architecture, TeacherShape
from workloads.shapes.costs import student_cost
from workloads.shapes.search_space import Space
from workloads.shapes.spaces import relative_spaces

_WARM_UPS = 2
_BATCHES = 4
"""Different batches that the steps take in turn."""


@dataclass(frozen=True)
class Rate:
    """The speed of a trainer.

    Attributes:
        steps: Steps that were timed.
        seconds: Seconds of a step.
        tokens: Tokens of a step.
        flops: Floating-point operations of a step, whole forwards counted.
        computed: The same without the parts of the last layer that nothing is compared with.
        memory: Most bytes of the card in use; None on a CPU.
    """

    steps: int
    seconds: float
    tokens: int
    flops: float
    computed: float
    memory: int | None

    @property
    def tokens_a_second(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds

    @property
    def tflops(self) -> float:
        """TFLOP/s."""
        return self.flops / self.seconds / 1e12


def measure(trainer: GroupTrainer, *, rows: int, length: int, least_steps: int, seconds: float) -> Rate:
    """Time steps of a trainer, after a few that are not timed."""
    device = trainer.worker.device
    batches = [random_batch(trainer.teacher, rows, length, seed) for seed in range(_BATCHES)]
    for step in range(_WARM_UPS):
        wait_for(device)
        started = time.monotonic()
        trainer.step(step, batches[step % _BATCHES])
    wait_for(device)
    steps = max(least_steps, math.ceil(seconds / (time.monotonic() - started)))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with _counted(trainer, length) as macs:
        started = time.monotonic()
        for step in range(steps):  # without waits between them, as in training
            trainer.step(_WARM_UPS + step, batches[step % _BATCHES])
        wait_for(device)
        took = time.monotonic() - started
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    shape, objective = trainer.teacher.shape, trainer.objective
    teacher = _macs(shape, shape.architecture, objective.teacher_wants, length)
    flops, computed = (
        2 * (of_teacher * rows + 3 * sum(of_subnets) / steps)
        for of_teacher, of_subnets in zip(teacher, zip(*macs, strict=True), strict=True)
    )
    return Rate(steps, took / steps, rows * length, flops, computed, memory)


def figures(teacher: Teacher, sizes: Sizes, card: str | None) -> Iterator[dict[str, Any]]:
    """Yield a figure for each sub-space, teacher and number of rows; the larger teacher's largest sub-space first."""
    device = teacher.model.device
    larger = random_teacher(teacher, sizes.larger, device)
    for one, name in ((larger, "random weights"), (teacher, sizes.profile.teacher)):
        spaces = relative_spaces(one.shape, sizes.profile.subspaces)
        groups: list[Sequence[Space]] = [[space] for space in reversed(spaces)]
        for group in [*groups, spaces]:
            trainer = trainer_of(one, group, sizes.profile.training, length=sizes.length, rows=sizes.batches[0])
            for rows in sizes.batches:
                rate = measure(
                    trainer, rows=rows, length=sizes.length, least_steps=sizes.least_steps, seconds=sizes.seconds
                )
                yield {
                    "teacher": f"{one.shape.layers} x {one.shape.hidden_size}, {name}",
                    "members": [space.name for space in group],
                    **of_rate(rate, card, rows=rows, length=sizes.length),
                }
            del trainer


def of_rate(rate: Rate, card: str | None, *, rows: int, length: int) -> dict[str, Any]:
    """Return a rate as JSON-like values; the share of the peak only for a card whose peak is known."""
    found = {
        "rows": rows,
        "length": length,
        "steps": rate.steps,
        "seconds_a_step": rate.seconds,
        "tokens_a_second": rate.tokens_a_second,
        "tflops": rate.tflops,
        "tflops_computed": rate.computed / rate.seconds / 1e12,
    }
    if (share := share_of_peak(rate.tflops, card)) is not None:
        found["share_of_peak"] = share
    if rate.memory is not None:
        found["memory_gib"] = rate.memory / 2**30
    return found


def matrix_tflops(side: int, device: torch.device) -> float:
    """Measure products of square bfloat16 matrices of random numbers, which show what the card can reach."""
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    repeats = 10
    for _ in range(_WARM_UPS):
        left @ right
    wait_for(device)
    started = time.monotonic()
    for _ in range(repeats):
        left @ right
    wait_for(device)
    return 2 * side**3 * repeats / (time.monotonic() - started) / 1e12


@contextmanager
def _counted(trainer: GroupTrainer, length: int) -> Iterator[list[tuple[float, float]]]:
    """Collect the multiply-accumulates of the forwards of all subnets that are trained meanwhile; see :func:`_macs`."""
    shape, found = trainer.teacher.shape, list[tuple[float, float]]()

    def note(module: SuperLM, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        batch: Batch = named["batch"] if "batch" in named else given[0]
        architecture: Architecture = named["architecture"] if "architecture" in named else given[1]
        whole, computed = _macs(shape, architecture, trainer.objective.student_wants(architecture), length)
        rows = len(batch.input_ids_BL)
        found.append((whole * rows, computed * rows))

    with ExitStack() as stack:
        for member in trainer.members.values():
            handle = member.superlm.register_forward_pre_hook(note, with_kwargs=True)
            stack.callback(handle.remove)
        yield found


def _macs(shape: TeacherShape, one: Architecture, wants: Wants, length: int) -> tuple[int, int]:
    """Count the multiply-accumulates of a row: those of a whole forward, and those of what is wanted of it."""
    whole, depth, last = student_cost(shape, one, length).flops, len(one.layers), one.layers[-1]
    if wants.output or wants.head or depth in wants.hidden:
        return whole, whole
    assert depth in wants.relations, wants
    longer = replace(one, layers=(*one.layers, last))
    layer = student_cost(shape, longer, length).flops - whole
    projections = 3 * one.hidden_size * last.heads * last.head_width * length
    return whole, whole - layer + projections
