"""CPU time of one compression over that of distilling fixed students one by one, at equal tokens.

    python -m benchmarks.break_even [--rounds 3]

The CPU-seconds of a step of 16 x 64 tokens are measured in one process, in alternating rounds:

- *compression*: the demo's three SuperLMs together, with one teacher forward, and the largest, the smallest and two
  random subnets of each (the demo's sandwich);
- *fixed*: each of 27 students alone, nine per sub-space, spread evenly over its FLOPs from the smallest to the largest:
  one teacher forward, one forward and backward of that shape, its own AdamW. It is the same code without sharing, which
  costs about as much as a plain `BertModel` (`superlm_overhead`).

The break-even is the compression's step divided by the mean of the fixed students' steps. It leaves out Ray's start,
which 27 separate runs would pay 27 times, and the search, which is measured separately (the demo's candidates and
held-out rows).

It is reported with the teacher's forward counted on both sides, and left out of both, as if all 27 students read
signals that the teacher gave once. Left out, it is the work of all subnets of a step, four of each SuperLM, over that
of one student of the mean size, so it is about the number of these subnets. Only fewer subnets a step would lower it.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from contextlib import closing

import torch

from benchmarks.demo_scene import BATCH, LENGTH, DemoScene
from benchmarks.record import record
from workloads.craft.polishing import single_student_space
from workloads.craft.products import fast_models
from workloads.craft.sandwich import subnets_of_step
from workloads.craft.scoring import Heldout, score_rows
from workloads.craft.signals import Batch
from workloads.craft.training import GroupTrainer
from workloads.runs.search.board import LARGEST_LOT
from workloads.shapes.architecture import Architecture
from workloads.shapes.costs import student_cost
from workloads.shapes.search_space import ProductSpace

BREAK_EVEN_BAR, LEFT_OUT_BAR, SHARE_BAR = 7.0, 4.0, 0.25
STEPS_OF_A_RUN, PER_SPACE, HELDOUT_ROWS = 160, 9, 64
_STEPS = 4


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(2)
    scene = DemoScene()
    with closing(scene.batches()) as source:
        batches = list(itertools.islice(source, _STEPS + 1))
    students = [(space, one) for space in scene.spaces for one in _spread(scene, space)]
    assert len(students) == 27, students
    compressions, fixed, forwards = [], [], []
    for _ in range(rounds):
        forwards.append(_forward_seconds(scene, batches))
        compressions.append(_step_seconds(scene.trainer(scene.spaces, STEPS_OF_A_RUN, order=scene.order), batches))
        fixed.append(
            [
                _step_seconds(
                    scene.trainer([single_student_space(space, one)], STEPS_OF_A_RUN, order=scene.order), batches
                )
                for space, one in students
            ]
        )
    break_evens = [whole / statistics.mean(ones) for whole, ones in zip(compressions, fixed, strict=True)]
    left_out = [
        (whole - forward) / (statistics.mean(ones) - forward)
        for whole, ones, forward in zip(compressions, fixed, forwards, strict=True)
    ]
    search, candidates = _search_seconds(scene)
    whole = statistics.median(compressions) * STEPS_OF_A_RUN
    one_by_one = sum(statistics.median(round_[i] for round_ in fixed) for i in range(27)) * STEPS_OF_A_RUN
    record(
        "break_even",
        value=statistics.median(break_evens),
        unit="fixed students, distilled one by one, that cost what one compression costs (training alone)",
        bar=BREAK_EVEN_BAR,
        spread=sorted(break_evens),
        command="python -m benchmarks.break_even",
        without_the_teachers_forward=statistics.median(left_out),
        without_the_teachers_forward_bar=LEFT_OUT_BAR,
        without_the_teachers_forward_spread=sorted(left_out),
        subnets_of_a_step=sum(subnets_of_step(space, scene.training(1)) for space in scene.spaces),
        share_of_27=whole / one_by_one,
        share_of_27_bar=SHARE_BAR,
        share_of_27_with_search=(whole + search) / one_by_one,
        break_even_with_search=(whole + search) / (one_by_one / 27),
        steps=STEPS_OF_A_RUN,
        tokens_of_a_step=BATCH * LENGTH,
        cpu_seconds={
            "compression": whole,
            "27 fixed students": one_by_one,
            "search": search,
            "compression, a step": statistics.median(compressions),
            "teacher's forward, a step": statistics.median(forwards),
        },
        search={"candidates": candidates, "heldout_rows": HELDOUT_ROWS},
        fixed_students=[
            {
                "subspace": space.name,
                "shape": one.describe(),
                "cpu_seconds_a_step": round(statistics.median(round_[i] for round_ in fixed), 4),
            }
            for i, (space, one) in enumerate(students)
        ],
    )


def _spread(scene: DemoScene, space: ProductSpace) -> list[Architecture]:
    ordered = sorted(space, key=lambda one: student_cost(scene.teacher.shape, one, LENGTH).flops)
    return [ordered[round(i * (len(ordered) - 1) / (PER_SPACE - 1))] for i in range(PER_SPACE)]


def _step_seconds(trainer: GroupTrainer, batches: list[Batch]) -> float:
    trainer.step(0, batches[0])  # the optimiser allocates its moments
    started = time.process_time()
    for step, batch in enumerate(batches[1:], start=1):
        trainer.step(step, batch)
    return (time.process_time() - started) / (len(batches) - 1)


def _forward_seconds(scene: DemoScene, batches: list[Batch]) -> float:
    """CPU-seconds of the teacher's forward on a batch, as a step runs it."""
    wanted = scene.objective.teacher_wants
    with torch.no_grad(), fast_models():
        scene.teacher.read(batches[0], wanted)
        started = time.process_time()
        for batch in batches[1:]:
            scene.teacher.read(batch, wanted)
    return (time.process_time() - started) / (len(batches) - 1)


def _search_seconds(scene: DemoScene) -> tuple[float, int]:
    rows = scene.heldout(HELDOUT_ROWS)
    batches = [Batch(rows.input_ids_BL[at : at + BATCH]) for at in range(0, HELDOUT_ROWS, BATCH)]
    members = scene.trainer(scene.spaces, STEPS_OF_A_RUN, order=scene.order).members
    torch.set_num_threads(1)  # as in a search, which has one actor a core
    started, scored = time.process_time(), 0
    read = Heldout.read(scene.teacher, scene.objective, batches)
    for member in members.values():
        heldout = read.ordered(None if member.head_order is None else member.head_order.tolist())
        candidates = list(member.space)
        for start in range(0, len(candidates), LARGEST_LOT):
            score_rows(member.superlm, candidates[start : start + LARGEST_LOT], scene.objective, heldout)
        scored += len(candidates)
    return time.process_time() - started, scored


if __name__ == "__main__":
    main()
