"""A group of SuperLMs to train without Ray; as a program, one of two workers that share the rows.

Run as ``python -m tests.workloads.craft.training_scene TEACHER OUTPUT RANK``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from workloads.craft.objectives.objective import Objective, objective_for
from workloads.craft.signals import Batch
from workloads.craft.superlm_files import build_superlm
from workloads.craft.teacher import Teacher, open_teacher
from workloads.craft.training import GroupTrainer, Member, Worker
from workloads.shapes.search_space import ProductSpace
from workloads.spec.request import ObjectiveSpec, TrainingSpec

BATCH, LENGTH, STEPS = 7, 12, 4
RATE = 2e-4
"""Small, because AdamW makes steps of this size from gradients of pure rounding noise, such as those of key biases."""
SPACES = {
    "small": ProductSpace("small", (2, 3), (16, 32), (2.0, 3.0), None, 16, 4, "floor"),
    "base": ProductSpace("base", (3, 4), (32, 48), (2.0, 3.0), (2, 4), 16, 4, "floor"),
    "teacher": ProductSpace("teacher", (4,), (64,), (4.0,), None, 16, 4),
}


def trainer_of(
    teacher: Teacher,
    *,
    names: Sequence[str] = ("small", "base"),
    training: Mapping[str, Any] | None = None,
    objective: Mapping[str, Any] | None = None,
    made: Objective | None = None,
    steps: int = STEPS,
    lengths: Mapping[str, int] | None = None,
    renamed: str = "",
    seed: int = 0,
    rank: int = 0,
    world: int = 1,
) -> GroupTrainer:
    """Give a trainer with dropout, in float32 unless ``training`` says otherwise."""
    spec = TrainingSpec.model_validate(
        {"batch_size": BATCH, "sequence_length": LENGTH, "precision": "float32", "learning_rate": RATE}
        | dict(training or {})
    )
    made = made or objective_for(ObjectiveSpec.model_validate(dict(objective or {})), teacher.shape)
    members = {}
    for name in names:
        space = replace(SPACES[name], name=renamed + name)
        built = build_superlm(teacher, space, order=None, maps=made.maps)
        members[space.name] = Member(space, built.superlm, built.head_order, (lengths or {}).get(name, steps))
    return GroupTrainer(teacher, members, made, spec, seed=seed, worker=Worker(torch.device("cpu"), rank, world))


def batch_of(step: int, layout: str = "packed", padding: int = 0) -> Batch:
    """Give the batch of a step; ``documents`` are rows of different lengths."""
    generator = torch.Generator().manual_seed(step)
    ids_BL = torch.randint(5, 60, (BATCH, LENGTH), generator=generator)
    if layout == "packed":
        return Batch(ids_BL)
    lengths_B = torch.randint(3, LENGTH + 1, (BATCH,), generator=generator)
    mask_BL = torch.arange(LENGTH + padding) < lengths_B[:, None]
    return Batch(torch.nn.functional.pad(ids_BL, (0, padding)).masked_fill(~mask_BL, 0), mask_BL)


def train(
    trainer: GroupTrainer, *, first: int = 0, steps: int | None = None, batches: int = 100, **batch: Any
) -> list[dict[str, Tensor]]:
    """Train and return the losses of each step."""
    last = trainer.steps if steps is None else first + steps
    return [trainer.step(step, batch_of(step % batches, **batch)) for step in range(first, last)]


def flats(trainer: GroupTrainer) -> dict[str, Tensor]:
    """Copy all weights."""
    return {name: value.clone() for name, value in trainer.state().items() if name.count("/") == 1}


def work(teacher: Teacher, folder: Path, rank: int) -> None:
    """Train as one of two workers, in each precision, and leave the weights in ``folder``."""
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        for precision in ("float32", "bfloat16"):
            trainer = trainer_of(teacher, training={"precision": precision}, rank=rank, world=2)
            train(trainer)
            torch.save(flats(trainer), folder / f"{precision}-{rank}.pt")
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    work(open_teacher(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3]))
