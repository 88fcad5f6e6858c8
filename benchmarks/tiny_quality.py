"""Held-out relation loss of the demo's tiny SuperLM: its trained largest subnet compared with plain prefix slices.

The loss at the start is that of plain prefix slices of the teacher. The loss at the end is after the demo's 160 steps
of 1,024 tokens, which start from slices ordered by importance. Only this SuperLM is trained, three times, with
another seed of the subnet draws each time.
"""

from __future__ import annotations

import itertools
from contextlib import closing

import torch

from benchmarks.demo_scene import DemoScene
from benchmarks.record import record

STEPS, ROWS, BAR = 160, 256, 0.40


def main() -> None:
    """Train and record."""
    torch.set_num_threads(2)
    scene = DemoScene()
    tiny, heldout = scene.spaces[0], scene.heldout(ROWS)
    start = scene.heldout_loss(scene.trainer([tiny], STEPS, order=None).members["tiny"], heldout)
    ratios, curves = [], []
    for seed in (1, 2, 3):
        trainer = scene.trainer([tiny], STEPS, order=scene.order)
        trainer.seed = seed
        curve = []
        with closing(scene.batches()) as batches:
            for step, batch in enumerate(itertools.islice(batches, STEPS)):
                trainer.step(step, batch)
                if (step + 1) % 40 == 0:
                    curve.append(round(scene.heldout_loss(trainer.members["tiny"], heldout), 4))
        ratios.append(curve[-1] / start)
        curves.append(curve)
    record(
        "tiny_quality",
        value=max(ratios),
        unit="held-out loss after 160 steps / that of plain prefix slices (the worst of three seeds)",
        bar=BAR,
        spread=[min(ratios), max(ratios)],
        command="python -m benchmarks.tiny_quality",
        start_loss=start,
        losses_every_40_steps=curves,
    )


if __name__ == "__main__":
    main()
