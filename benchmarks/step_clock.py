"""Answers how many CPU-seconds a training step takes, in a process of its own, for the checkout on ``PYTHONPATH``.

    PYTHONPATH=CHECKOUT python -P benchmarks/step_clock.py THREADS

It uses only what the demo's scene has had since it exists, so that an older checkout can be timed too. Each line of
input is the name of a sub-space, or ``together`` for all; the answer is a line of JSON after :data:`MARK`.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from contextlib import closing

import torch

from benchmarks.demo_scene import DemoScene

MARK = "step_clock: "
STEPS = 4
_STEPS_OF_A_RUN = 160


def main() -> None:
    """Answer until the input ends."""
    torch.set_num_threads(int(sys.argv[1]))
    scene = DemoScene()
    with closing(scene.batches()) as source:
        batches = list(itertools.islice(source, STEPS + 1))
    kinds = {"together": scene.spaces} | {space.name: [space] for space in scene.spaces}
    _answer(list(kinds))
    for line in sys.stdin:
        trainer = scene.trainer(kinds[line.strip()], _STEPS_OF_A_RUN, order=scene.order)
        trainer.step(0, batches[0])  # the optimiser allocates its moments
        wall, cpu = time.perf_counter(), time.process_time()
        for step, batch in enumerate(batches[1:], start=1):
            trainer.step(step, batch)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        _answer({"cpu": cpu / STEPS, "wall": wall / STEPS})


def _answer(answer: object) -> None:
    sys.stdout.write(f"{MARK}{json.dumps(answer)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
