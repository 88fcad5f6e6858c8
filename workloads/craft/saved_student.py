"""A saved student scored by its files: the model that plain ``transformers`` loads, and the learned maps beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from workloads.craft.export import map_file
from workloads.craft.objectives.objective import Objective
from workloads.craft.objectives.term import LearnedMap
from workloads.craft.objectives.vectors import VECTOR_PROJECTION
from workloads.craft.scoring import Heldout, Losses, Subject, score_subject
from workloads.craft.signals import Batch, Signals
from workloads.craft.teacher import Teacher, open_teacher
from workloads.shapes.heads import VectorHead
from workloads.spec.errors import InputError


@dataclass(frozen=True)
class SavedStudent:
    """A student that has been opened.

    Attributes:
        opened: The model with its tokenizer; a student can be a teacher, so it is opened as one.
        maps: The learned maps of the objective by name, each with ``weight`` and ``bias``.
    """

    opened: Teacher
    maps: Mapping[str, Mapping[str, Tensor]]

    def score(self, objective: Objective, heldout: Heldout, rows: range, device: torch.device) -> Losses:
        """Compute the loss on each of some held-out rows; the models are moved to the device.

        Args:
            objective: The objective that the student was trained on.
            heldout: In the student's head order.
            rows: Which; a batch must begin at the first and one must end with the last.
            device: Where to score.
        """
        self.opened.model.to(device)
        wants = objective.student_wants(self.opened.shape.architecture)
        maps = {name: {kind: x.to(device) for kind, x in own.items()} for name, own in self.maps.items()}

        def read(batch: Batch) -> Signals:
            return self.opened.read(batch, wants)

        def learned_map(name: str, x_BH: Tensor) -> Tensor:
            return F.linear(x_BH, maps[name]["weight"], maps[name]["bias"])

        return score_subject(Subject(read, learned_map), objective, heldout, rows, device)


def open_student(folder: Path, teacher: Teacher, objective: Objective, field: str) -> SavedStudent:
    """Open a student's folder.

    Args:
        folder: The student's folder.
        teacher: Its teacher.
        objective: The objective that it was trained on.
        field: The field that errors about its learned maps name.

    Raises:
        InputError: The model cannot be loaded, or a learned map of the objective is missing or does not fit.
    """
    opened = open_teacher(folder, teacher.shape.kind)
    maps = {}
    for one in objective.maps:
        file = folder / map_file(one.name)
        remedy = "Copy the whole folder of the student again: the objective compares its output through this map."
        if not file.is_file():
            raise InputError.of(field, f"{file} is missing.", remedy)
        try:
            found = load_file(file)
        except (SafetensorError, OSError) as error:
            raise InputError.of(field, f"{file} cannot be read: {error}.", remedy) from error
        outputs, inputs = _map_sizes(one, teacher, opened)
        sizes = {name: tuple(tensor.shape) for name, tensor in found.items()}
        if sizes != {"weight": (outputs, inputs), "bias": (outputs,)}:
            problem = f"{file} is not a map of {inputs} dimensions to {outputs}."
            raise InputError.of(field, problem, remedy)
        maps[one.name] = found
    return SavedStudent(opened, maps)


def _map_sizes(one: LearnedMap, teacher: Teacher, student: Teacher) -> tuple[int, int]:
    """Return the numbers of outputs and inputs of a learned map."""
    head = teacher.shape.head
    if one == VECTOR_PROJECTION and isinstance(head, VectorHead):
        return head.teacher_width or head.width, head.width
    return one.copies * teacher.shape.hidden_size, student.shape.hidden_size
