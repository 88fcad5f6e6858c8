"""Scoring: the loss of a subnet on held-out text, against a teacher that is read once for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workloads.architecture import Architecture
from workloads.craft.blocks import TokenRows
from workloads.craft.objectives import Counts, Objective, Targets
from workloads.craft.signals import Batch, Signals
from workloads.craft.superlm import SuperLM
from workloads.craft.teacher import Teacher


@dataclass(frozen=True)
class HeldoutTargets:
    """Held-out text and the teacher's side of it, read in one head order.

    Attributes:
        batches: The rows.
        targets: The teacher's side of each batch.
        counts: Of all batches together, so that their losses add up to the mean.
    """

    batches: tuple[Batch, ...]
    targets: tuple[Targets, ...]
    counts: Counts

    @classmethod
    def prepare(
        cls,
        objective: Objective,
        batches: Sequence[Batch],
        signals: Sequence[Signals],
        head_order: Sequence[int] | None,
    ) -> HeldoutTargets:
        """Turn the teacher's signals into targets.

        Args:
            objective: What students are scored by.
            batches: The held-out batches.
            signals: What the teacher gave for each of them; see :func:`read_teacher`.
            head_order: The order of the attention width's dimensions ``[A]`` in which a SuperLM reads the
                teacher's last layer; None where its heads were not reordered.
        """
        order = None if head_order is None else torch.tensor(head_order)
        pairs = zip(signals, batches, strict=True)
        targets = tuple(objective.targets(given, batch, order) for given, batch in pairs)
        counts = [objective.counts(batch) for batch in batches]
        whole = Counts(
            sum(count.rows for count in counts),
            sum(count.tokens for count in counts),
            sum(count.pairs for count in counts),
        )
        return cls(tuple(batches), targets, whole)


def heldout_batches(rows: TokenRows, batch_size: int) -> tuple[Batch, ...]:
    """Cut held-out rows into batches of at most ``batch_size`` rows; those without padding carry no mask."""
    ids_BL = torch.from_numpy(rows.input_ids)
    mask_BL = None if rows.mask is None else torch.from_numpy(rows.mask)
    batches = []
    for start in range(0, len(ids_BL), batch_size):
        part = slice(start, start + batch_size)
        mask = None if mask_BL is None or bool(mask_BL[part].all()) else mask_BL[part]
        batches.append(Batch(ids_BL[part], mask))
    return tuple(batches)


@torch.no_grad()
def read_teacher(teacher: Teacher, objective: Objective, batches: Sequence[Batch]) -> tuple[Signals, ...]:
    """Give what the teacher has to say about each batch; the same for every head order."""
    return tuple(teacher.family.read(teacher.model, batch, objective.teacher_wants) for batch in batches)


@torch.no_grad()
def score(superlm: SuperLM, architecture: Architecture, objective: Objective, heldout: HeldoutTargets) -> float:
    """Give the mean loss of one subnet over all held-out text, without dropout.

    The mean is over the real rows, tokens or token pairs of all batches (whichever a term counts by), so that it
    does not depend on how the text is cut into batches.

    Args:
        superlm: The SuperLM; its mode is put back afterwards.
        architecture: The subnet.
        objective: As for ``heldout``.
        heldout: In the SuperLM's head order.
    """
    wants = objective.student_wants(architecture)
    training = superlm.training
    superlm.eval()
    try:
        total = 0.0
        for batch, targets in zip(heldout.batches, heldout.targets, strict=True):
            signals = superlm(batch, architecture, wants)
            loss: Tensor = objective.loss(signals, targets, batch, heldout.counts, superlm.project)
            total += loss.item()
        return total
    finally:
        superlm.train(training)
