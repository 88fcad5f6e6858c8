"""Building a SuperLM from a teacher, and saving its weights in a file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from workloads.craft.importance import Order, apply_order
from workloads.craft.objectives.term import LearnedMap
from workloads.craft.objectives.vectors import VECTOR_PROJECTION
from workloads.craft.superlm import SuperLM, Wiring
from workloads.shapes.heads import VectorHead
from workloads.shapes.parameters import head_parts
from workloads.shapes.search_space import Space

if TYPE_CHECKING:
    from workloads.craft.teacher import Teacher

FILE = "superlm.safetensors"


@dataclass(frozen=True)
class Built:
    """A new SuperLM, and the head order in which objectives must read the teacher's last layer (None: unchanged)."""

    superlm: SuperLM
    head_order: Tensor | None


def wiring_of(teacher: Teacher) -> Wiring:
    """Return the settings of the teacher's family that a forward pass needs beside the weights."""
    facts = teacher.facts
    return Wiring(facts.layer_norm_eps, facts.activation, facts.positions, facts.relative_buckets, teacher.shape.head)


def build_superlm(teacher: Teacher, space: Space, *, order: Order | None, maps: Iterable[LearnedMap] = ()) -> Built:
    """Start a SuperLM from the teacher.

    Args:
        teacher: Source of the weights.
        space: The sub-space it must hold.
        order: The importance order; None leaves the weights in their own order.
        maps: The learned maps to add; each starts by mapping a hidden dimension to its place in the teacher.

    Returns:
        The SuperLM on the CPU, wherever the teacher is.
    """
    weights = {name: tensor.cpu() for name, tensor in teacher.weights.items()}
    if order is not None:
        weights = apply_order(weights, order)
    maps, hidden = tuple(maps), teacher.shape.hidden_size
    places = torch.arange(hidden) if order is None else order.hidden
    head = teacher.shape.head
    added = {one.name: one.copies for one in maps if one != VECTOR_PROJECTION}
    # The projection of an embedding model's students, which the teacher does not have.
    added |= {part.name: 1 for part in head_parts(head) if f"{part.name}.weight" not in weights}
    for name, copies in added.items():
        weights[f"{name}.weight"] = torch.eye(hidden)[:, places].repeat(copies, 1)
        weights[f"{name}.bias"] = torch.zeros(copies * hidden)
    if isinstance(head, VectorHead) and head.teacher_width is not None:
        last = head.parts[-1]
        for kind in ("weight", "bias"):  # smaller vectors start as the first dimensions of the teacher's
            weights[f"{last}.{kind}"] = weights[f"{last}.{kind}"][: head.width]
        if VECTOR_PROJECTION in maps:
            weights[f"{VECTOR_PROJECTION.name}.weight"] = torch.eye(head.teacher_width)[:, : head.width]
            weights[f"{VECTOR_PROJECTION.name}.bias"] = torch.zeros(head.teacher_width)
    superlm = SuperLM.from_teacher(weights, space, wiring_of(teacher))
    return Built(superlm, None if order is None else order.width_order(teacher.shape.layers - 1))


def save_superlm(folder: Path, superlm: SuperLM) -> None:
    """Write the weights to :data:`FILE` in ``folder``, which is created if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: superlm.flat[name].detach().cpu().clone() for name in superlm.flat.shapes}
    save_file(weights, folder / FILE, {"format": "pt"})


def load_superlm(folder: Path, wiring: Wiring) -> SuperLM:
    """Read a SuperLM that :func:`save_superlm` wrote."""
    return SuperLM(load_file(folder / FILE), wiring)


def continue_superlm(folder: Path, space: Space, wiring: Wiring) -> SuperLM:
    """Cut a new SuperLM from the saved weights of a trained one, whose sub-space contains ``space``."""
    return SuperLM.from_teacher(load_file(folder / FILE), space, wiring)
