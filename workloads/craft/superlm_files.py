"""Building a SuperLM from a teacher, and keeping its weights in a file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from workloads.craft.importance import Order, apply_order
from workloads.craft.objectives.term import LearnedMap
from workloads.craft.superlm import SuperLM, Wiring
from workloads.craft.teacher import Teacher
from workloads.shapes.search_space import Space

FILE = "superlm.safetensors"


@dataclass(frozen=True)
class Built:
    """A fresh SuperLM, and the order in which objectives must read the teacher's last layer (None: as it is)."""

    superlm: SuperLM
    head_order: Tensor | None


def wiring_of(teacher: Teacher) -> Wiring:
    """Give the facts that a forward of the teacher's family needs beside its weights."""
    facts = teacher.facts
    return Wiring(facts.layer_norm_eps, facts.activation, facts.positions, facts.relative_buckets)


def build_superlm(teacher: Teacher, space: Space, *, order: Order | None, maps: Iterable[LearnedMap] = ()) -> Built:
    """Start a SuperLM from the teacher.

    Args:
        teacher: Where its weights come from.
        space: The sub-space it must hold.
        order: The importance order, or None to slice the weights as they lie.
        maps: The learned maps that it carries; each starts as the map of each kept dimension onto its own place.

    Returns:
        The SuperLM on the CPU, wherever the teacher is.
    """
    weights = {name: tensor.cpu() for name, tensor in teacher.weights.items()}
    if order is not None:
        weights = apply_order(weights, order)
    hidden = teacher.shape.hidden_size
    places = torch.arange(hidden) if order is None else order.hidden
    for one in maps:
        weights[f"{one.name}.weight"] = torch.eye(hidden)[:, places].repeat(one.copies, 1)
        weights[f"{one.name}.bias"] = torch.zeros(one.copies * hidden)
    superlm = SuperLM.from_teacher(weights, space, wiring_of(teacher))
    return Built(superlm, None if order is None else order.width_order(teacher.shape.layers - 1))


def save_superlm(folder: Path, superlm: SuperLM) -> None:
    """Write the weights into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: superlm.flat[name].detach().cpu().clone() for name in superlm.flat.shapes}
    save_file(weights, folder / FILE, {"format": "pt"})


def load_superlm(folder: Path, wiring: Wiring) -> SuperLM:
    """Read the weights back."""
    return SuperLM(load_file(folder / FILE), wiring)


def continue_superlm(folder: Path, space: Space, wiring: Wiring) -> SuperLM:
    """Start the SuperLM of a sub-space that lies within a trained one's from that one's weights."""
    return SuperLM.from_teacher(load_file(folder / FILE), space, wiring)
