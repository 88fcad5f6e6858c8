"""Teachers and trainers that the checks and the utilisation are measured with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig

from workloads.craft.families import family_of
from workloads.craft.families.stock import STOCK
from workloads.craft.objectives.objective import objective_for
from workloads.craft.signals import Batch
from workloads.craft.superlm_files import build_superlm
from workloads.craft.teacher import Teacher, open_teacher
from workloads.craft.training import GroupTrainer, Member, Worker
from workloads.shapes.architecture import Architecture
from workloads.shapes.search_space import Space
from workloads.spec.request import ObjectiveSpec, TrainingSpec

_ENDLESS = 1_000_000
_FIRST_ID = 5
"""Ids below are often special ones."""


def teacher_in(folder: Path, device: torch.device) -> Teacher:
    """Open the kit's teacher on the device."""
    teacher = open_teacher(folder)
    teacher.model.to(device)
    return teacher


def random_teacher(like: Teacher, shape: Architecture, device: torch.device) -> Teacher:
    """Make a BERT of a shape with random weights, and with the vocabulary and tokenizer of another teacher."""
    family, vocabulary = family_of("bert"), like.shape.vocabulary
    config = BertConfig(
        vocab_size=vocabulary.vocab_size,
        hidden_size=shape.hidden_size,
        num_hidden_layers=len(shape.layers),
        num_attention_heads=shape.layers[0].heads,
        intermediate_size=shape.layers[0].intermediate_size,
        max_position_embeddings=vocabulary.positions,
        type_vocab_size=max(1, vocabulary.token_types),
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = STOCK["bert"].classes[None](config, add_pooling_layer=False)
    model.requires_grad_(False).eval().to(device)
    return Teacher(like.folder, family, model, family.shape(model), config, like.tokenizer, "random")


def random_batch(teacher: Teacher, rows: int, length: int, seed: int = 0) -> Batch:
    """Draw rows of random ids, on the CPU."""
    draw = torch.Generator().manual_seed(seed)
    return Batch(torch.randint(_FIRST_ID, teacher.shape.vocabulary.vocab_size, (rows, length), generator=draw))


def trainer_of(
    teacher: Teacher,
    spaces: Iterable[Space],
    settings: dict[str, Any],
    *,
    length: int,
    rows: int,
    steps: int = _ENDLESS,
) -> GroupTrainer:
    """Start a trainer of the product's default objective for sub-spaces, on the teacher's device.

    Args:
        teacher: The teacher.
        spaces: The sub-spaces, a member each.
        settings: Fields of :class:`TrainingSpec` beside its sizes.
        length: Tokens of a row.
        rows: Rows of a step.
        steps: Steps of the schedule.
    """
    device = teacher.model.device
    objective = objective_for(ObjectiveSpec(), teacher.shape)
    training = TrainingSpec(
        tokens_per_superlm=steps * rows * length, sequence_length=length, batch_size=rows, **settings
    )
    members = {}
    for space in spaces:
        built = build_superlm(teacher, space, order=None, maps=objective.maps)
        members[space.name] = Member(space, built.superlm.to(device), built.head_order, steps)
    return GroupTrainer(teacher, members, objective, training, seed=0, worker=Worker(device))


def wait_for(device: torch.device) -> None:
    """Wait until the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
