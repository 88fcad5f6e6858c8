"""Polishing the chosen student, compared with training its SuperLM for longer at the same CPU-seconds.

    python -m benchmarks.polish [--polish-steps 80] [--seeds 2]

The demo's teacher and text and its smallest sub-space are used, in one process. The held-out relation loss is
measured, on the same rows, of students at three budgets: FLOPs at a third, two thirds and all of the way from the
smallest to the largest subnet.

- *trained*: the SuperLM after 160 steps; each budget's best subnet by held-out loss is chosen.
- *polished*: the chosen subnet is trained alone for the given number of steps, once at a quarter of the SuperLM's
  learning rate and once at the full rate.
- *longer*: the SuperLM is trained from the start, with a longer schedule, for as many additional steps as the polish's
  CPU-seconds allow (by the measured time of a step of each); then the best subnets are chosen again. One longer
  training serves all budgets, so it gets the seconds of one polish, and in a second training those of all three.
- *top 3*: the best three of the middle budget are polished for a third of the steps each, and the best of them is
  compared with the single best one polished for all of the steps.

The value is the loss after polishing divided by the loss of the SuperLM that trained longer by the seconds of one
polish, as the mean over budgets and seeds. Below 1, polishing is the better use of the time. A second number compares
with the training that got the seconds of all three polishes.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.demo_scene import BATCH, LENGTH, DemoScene
from benchmarks.record import record
from workloads.craft.blocks import Blocks
from workloads.craft.polishing import single_student_space
from workloads.craft.scoring import Heldout, heldout_batches, score
from workloads.craft.signals import Batch
from workloads.craft.superlm_files import build_superlm, continue_superlm, save_superlm, wiring_of
from workloads.craft.training import GroupTrainer, Member, Worker
from workloads.shapes.architecture import Architecture
from workloads.shapes.costs import student_cost

TRAIN_STEPS, HELDOUT_ROWS, POLISH_RATE = 160, 128, 1 / 4


class Bench:
    """The demo's scene with one seed.

    Args:
        scene: Teacher and text.
        seed: Seed of the order of the text and of the sandwich draws.
    """

    def __init__(self, scene: DemoScene, seed: int) -> None:
        self.scene, self.seed, self.space = scene, seed, scene.spaces[0]
        rows = Blocks.open(scene.storage, scene.corpus, "heldout").read(range(HELDOUT_ROWS))
        heldout = Heldout.read(scene.teacher, scene.objective, heldout_batches(rows, BATCH))
        self.head_order = scene.order.width_order(scene.teacher.shape.layers - 1)
        self.heldout = heldout.ordered(self.head_order.tolist())

    def train(self, steps: int) -> tuple[Member, float]:
        """Train a SuperLM from the teacher; return it and the CPU-seconds of a step."""
        built = build_superlm(self.scene.teacher, self.space, order=self.scene.order)
        member = Member(self.space, built.superlm, self.head_order, steps)
        return member, self._run(member, steps, first_batch=0, rate=1.0)

    def polish(self, member: Member, one: Architecture, steps: int, rate: float = POLISH_RATE) -> tuple[float, float]:
        """Polish a student; return its held-out loss and the CPU-seconds of a step."""
        space = single_student_space(self.space, one)
        with TemporaryDirectory() as folder:
            save_superlm(Path(folder), member.superlm)
            superlm = continue_superlm(Path(folder), space, wiring_of(self.scene.teacher))
        polished = Member(space, superlm, self.head_order, steps)
        seconds = self._run(polished, steps, first_batch=TRAIN_STEPS, rate=rate)
        return self.loss(polished, one), seconds

    def loss(self, member: Member, one: Architecture) -> float:
        """Held-out loss of a subnet."""
        return score(member.superlm, one, self.scene.objective, self.heldout)

    def ranked(self, member: Member) -> list[tuple[float, Architecture]]:
        """All subnets with their losses, the best first."""
        found = [(self.loss(member, one), one) for one in self.space]
        return sorted(found, key=lambda item: item[0])

    def flops(self, one: Architecture) -> int:
        """Multiply-accumulates of a row."""
        return student_cost(self.scene.teacher.shape, one, LENGTH).flops

    def _run(self, member: Member, steps: int, *, first_batch: int, rate: float) -> float:
        training = self.scene.training(steps)
        training = training.model_copy(update={"learning_rate": training.learning_rate * rate})
        trainer = GroupTrainer(
            self.scene.teacher, {"x": member}, self.scene.objective, training, seed=self.seed,
            worker=Worker(torch.device("cpu")),
        )  # fmt: skip
        seconds = []
        blocks = Blocks.open(self.scene.storage, self.scene.corpus, "train")
        with closing(blocks.batches(self.seed, BATCH, first_batch)) as source:
            for step, rows in enumerate(itertools.islice(source, steps)):
                batch = Batch(torch.as_tensor(rows.input_ids))  # packed, so without a mask
                started = time.process_time()
                trainer.step(step, batch)
                seconds.append(time.process_time() - started)
        return statistics.median(seconds)


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--polish-steps", type=int, default=80)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)  # a second thread would spin while it waits, and its CPU time would count
    scene = DemoScene()
    runs: list[dict[str, Any]] = []
    for seed in range(1, given.seeds + 1):
        runs.append(_measure(Bench(scene, seed), given.polish_steps))
        _record(runs, given.polish_steps)  # record each seed, so that an interrupted run keeps its measures


def _record(runs: list[dict[str, Any]], polish_steps: int) -> None:
    rows = [row for run in runs for row in run["budgets"]]

    def over(one: str, other: str) -> float:
        return float(statistics.mean(row[one] / row[other] for row in rows))

    full = "polished_at_the_full_rate"
    record(
        "polish",
        value=over("polished", "longer_by_one_polish"),
        unit="held-out loss of the polished student / of the one chosen from a SuperLM trained longer by as many "
        "CPU-seconds",
        bar=None,
        spread=sorted(row["polished"] / row["longer_by_one_polish"] for row in rows),
        command=f"python -m benchmarks.polish --polish-steps {polish_steps} --seeds {len(runs)}",
        against_longer_training_by_all_polishes=over("polished", "longer_by_three_polishes"),
        polished_over_before=over("polished", "trained"),
        at_the_full_rate={
            "against longer training by one polish": over(full, "longer_by_one_polish"),
            "against longer training by all polishes": over(full, "longer_by_three_polishes"),
            "polished over before": over(full, "trained"),
        },
        top_3_over_top_1=statistics.mean(run["top"]["best_of_three"] / run["top"]["best_alone"] for run in runs),
        train_steps=TRAIN_STEPS,
        polish_steps=polish_steps,
        polish_rate_over_training_rate=POLISH_RATE,
        tokens_of_a_step=BATCH * LENGTH,
        heldout_rows=HELDOUT_ROWS,
        runs=runs,
    )


def _measure(bench: Bench, polish_steps: int) -> dict[str, Any]:
    trained, train_seconds = bench.train(TRAIN_STEPS)
    ranked = bench.ranked(trained)
    limits = _limits(bench)
    chosen = [_best(bench, ranked, limit) for limit in limits]
    polished = [bench.polish(trained, one, polish_steps) for _, one in chosen]
    seconds = [each for _, each in polished]
    # The seconds of one polish differ by student; the longer training gets those of the most expensive one.
    more = [round(polish_steps * total / train_seconds) for total in (max(seconds), sum(seconds))]
    longer = [bench.ranked(bench.train(TRAIN_STEPS + steps)[0]) for steps in more]
    rows = []
    for limit, (before, one), (after, _) in zip(limits, chosen, polished, strict=True):
        losses = [_best(bench, table, limit)[0] for table in longer]
        rows.append(
            {
                "max_flops": limit,
                "student": one.describe(),
                "trained": before,
                "polished": after,
                "polished_at_the_full_rate": bench.polish(trained, one, polish_steps, rate=1.0)[0],
                "longer_by_one_polish": losses[0],
                "longer_by_three_polishes": losses[1],
            }
        )
    first, *others = [item for item in ranked if bench.flops(item[1]) <= limits[1]][:3]
    thirds = [bench.polish(trained, one, polish_steps // 3)[0] for _, one in (first, *others)]
    return {
        "seed": bench.seed,
        "cpu_seconds_a_step": {"SuperLM": train_seconds, "polishing": dict(zip(_names(chosen), seconds, strict=True))},
        "longer_by_steps": more,
        "budgets": rows,
        "top": {
            "students": _names((first, *others)),
            "before": [loss for loss, _ in (first, *others)],
            "after_a_third": thirds,
            "best_of_three": min(thirds),
            "best_alone": polished[1][0],
        },
    }


def _limits(bench: Bench) -> list[int]:
    low, high = bench.flops(bench.space.smallest), bench.flops(bench.space.largest)
    return [low + (high - low) * third // 3 for third in (1, 2, 3)]


def _best(bench: Bench, ranked: Sequence[tuple[float, Architecture]], limit: int) -> tuple[float, Architecture]:
    return next(item for item in ranked if bench.flops(item[1]) <= limit)


def _names(ranked: Sequence[tuple[float, Architecture]]) -> list[str]:
    return [one.describe() for _, one in ranked]


if __name__ == "__main__":
    main()
