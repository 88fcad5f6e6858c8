"""Outputs of heads over many texts: the logits or vectors of a teacher, a saved student, or a subnet.

Shape letters: N rows, or real tokens for a head with an output for every token; C labels or dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workloads.craft.products import fast_models
from workloads.craft.signals import Batch, Signals, Wants
from workloads.craft.superlm import SuperLM
from workloads.shapes.architecture import Architecture

if TYPE_CHECKING:  # it imports models of transformers, which workers do not need
    from workloads.craft.teacher import Teacher

_WANTS = Wants(head=True)


def teacher_outputs(teacher: Teacher, batches: Iterable[Batch]) -> Tensor:
    """Run a teacher, or a student opened as one, and return its head's outputs, float32 ``[N, C]`` on the CPU.

    Args:
        teacher: A teacher with a head; it stays on its device.
        batches: Texts, such as :func:`workloads.craft.scoring.heldout_batches` gives.
    """
    device = teacher.model.device
    with fast_models():
        return _outputs(lambda batch: teacher.read(batch.to(device), _WANTS), batches)


def subnet_outputs(superlm: SuperLM, architecture: Architecture, batches: Iterable[Batch]) -> Tensor:
    """Run a subnet without dropout and return its head's outputs, float32 ``[N, C]`` on the CPU."""
    device = superlm.flat.decay.device
    return _outputs(lambda batch: superlm(batch.to(device), architecture, _WANTS), batches)


@torch.no_grad()
def _outputs(read: Callable[[Batch], Signals], batches: Iterable[Batch]) -> Tensor:
    found = []
    for batch in batches:
        head = read(batch).head
        assert head is not None
        if head.ndim == 3:
            head = head.flatten(0, 1) if batch.mask_BL is None else head[batch.mask_BL.to(head.device)]
        found.append(head.float().cpu())
    return torch.cat(found)
