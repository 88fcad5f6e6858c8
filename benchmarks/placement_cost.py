"""CPU-seconds of training the demo's three SuperLMs together, divided by those of training them apart.

Both train on equal tokens, in one process, in alternating pairs, without Ray's start (which "apart" needs three times).
"""

from __future__ import annotations

import itertools
import statistics
import time
from contextlib import closing

import torch

from benchmarks.demo_scene import LENGTH, DemoScene
from benchmarks.record import record
from workloads.craft.sandwich import step_flops
from workloads.runs.training.placement import PASSES
from workloads.shapes.costs import student_cost
from workloads.shapes.search_space import ProductSpace

STEPS, PAIRS, BAR = 6, 4, 0.90


def main() -> None:
    """Measure and record."""
    torch.set_num_threads(2)
    scene = DemoScene()
    everything = [scene.spaces]
    apart = [[space] for space in scene.spaces]
    _cpu_seconds(scene, everything)  # warm-up
    ratios = [_cpu_seconds(scene, everything) / _cpu_seconds(scene, apart) for _ in range(PAIRS)]
    shape = scene.teacher.shape
    teacher = student_cost(shape, shape.architecture, LENGTH).flops
    units = {space.name: PASSES * step_flops(space, shape, scene.training(STEPS)) / teacher for space in scene.spaces}
    record(
        "placement_cost",
        value=statistics.median(ratios),
        unit="CPU-seconds together / apart",
        bar=BAR,
        spread=[min(ratios), max(ratios)],
        command="python -m benchmarks.placement_cost",
        teacher_forwards_a_batch=units,
        ratio_by_flops=(1 + sum(units.values())) / (len(units) + sum(units.values())),
    )


def _cpu_seconds(scene: DemoScene, groups: list[list[ProductSpace]]) -> float:
    spent = 0.0
    for group in groups:
        trainer = scene.trainer(group, STEPS, order=scene.order)
        with closing(scene.batches()) as source:
            batches = list(itertools.islice(source, STEPS))
        started = time.process_time()
        for step, batch in enumerate(batches):
            trainer.step(step, batch)
        spent += time.process_time() - started
    return spent


if __name__ == "__main__":
    main()
