"""Scoring: the loss of a subnet on held-out text, against a teacher that is read once for all of them.

Losses are kept row by row: two subnets are then compared on the same rows, where most of the noise is common to both,
and a longer prefix of the text costs its new rows only.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from workloads.craft.blocks import TokenRows
from workloads.craft.objectives.objective import Counts, Objective, Targets
from workloads.craft.signals import Batch, Signals
from workloads.craft.superlm import SuperLM
from workloads.craft.teacher import Teacher
from workloads.shapes.architecture import Architecture

Losses = npt.NDArray[np.float64]
"""One a held-out row; their mean is the score."""


@dataclass(frozen=True)
class HeldoutTargets:
    """Held-out text and the teacher's side of it, read in one head order.

    Attributes:
        batches: The rows.
        targets: The teacher's side of each row of each batch.
        counts: Of all batches together, so that the losses of all rows average to the loss of the whole.
    """

    batches: tuple[Batch, ...]
    targets: tuple[tuple[Targets, ...], ...]
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
        targets = tuple(
            tuple(
                objective.targets(_signals_of_row(given, row), _row(batch, row), order)
                for row in range(len(batch.input_ids_BL))
            )
            for given, batch in zip(signals, batches, strict=True)
        )
        counts = [objective.counts(batch) for batch in batches]
        whole = Counts(
            sum(count.rows for count in counts),
            sum(count.tokens for count in counts),
            sum(count.pairs for count in counts),
        )
        return cls(tuple(batches), targets, whole)


def heldout_batches(rows: TokenRows, batch_size: int, ends: Sequence[int] = ()) -> tuple[Batch, ...]:
    """Cut held-out rows into batches; those without padding carry no mask.

    Args:
        rows: The held-out rows.
        batch_size: Rows of a batch, at most.
        ends: Row numbers that no batch reaches across: the rungs of a search.
    """
    ids_BL = torch.from_numpy(rows.input_ids)
    mask_BL = None if rows.mask is None else torch.from_numpy(rows.mask)
    stops = sorted({*(end for end in ends if end < len(ids_BL)), len(ids_BL)})
    batches = []
    start = 0
    while start < len(ids_BL):
        stop = min(start + batch_size, stops[bisect.bisect_right(stops, start)])
        part = slice(start, stop)
        mask = None if mask_BL is None or bool(mask_BL[part].all()) else mask_BL[part]
        batches.append(Batch(ids_BL[part], mask))
        start = stop
    return tuple(batches)


@torch.no_grad()
def read_teacher(teacher: Teacher, objective: Objective, batches: Sequence[Batch]) -> tuple[Signals, ...]:
    """Give what the teacher has to say about each batch; the same for every head order."""
    return tuple(teacher.family.read(teacher.model, batch, objective.teacher_wants) for batch in batches)


@torch.no_grad()
def score_rows(
    superlm: SuperLM,
    architecture: Architecture,
    objective: Objective,
    heldout: HeldoutTargets,
    start: int = 0,
    stop: int | None = None,
) -> Losses:
    """Give the loss of one subnet on each of some held-out rows, without dropout.

    A row's loss is its share of the loss of all rows, times their number: the mean over all rows is the mean over the
    real rows, tokens or token pairs (whichever a term counts by) of all held-out text, however that is cut.

    Args:
        superlm: The SuperLM; its mode is put back afterwards.
        architecture: The subnet.
        objective: As for ``heldout``.
        heldout: In the SuperLM's head order.
        start: The first row; a batch must begin there.
        stop: The row after the last; a batch must end there. All rows by default.
    """
    wants = objective.student_wants(architecture)
    counts = heldout.counts
    stop = counts.rows if stop is None else stop
    losses: list[float] = []
    training = superlm.training
    superlm.eval()
    try:
        end = 0
        for batch, targets in zip(heldout.batches, heldout.targets, strict=True):
            begin, end = end, end + len(targets)
            if end <= start or begin >= stop:
                continue
            assert start <= begin and end <= stop, (start, begin, end, stop)
            signals = superlm(batch, architecture, wants)
            for row, target in enumerate(targets):
                given, alone = _signals_of_row(signals, row), _row(batch, row)
                loss: Tensor = objective.loss(given, target, alone, counts, superlm.project)
                losses.append(loss.item() * counts.rows)
    finally:
        superlm.train(training)
    return np.array(losses)


def score(superlm: SuperLM, architecture: Architecture, objective: Objective, heldout: HeldoutTargets) -> float:
    """Give the mean loss of one subnet over all held-out text; see :func:`score_rows`."""
    return float(score_rows(superlm, architecture, objective, heldout).mean())


def _row(batch: Batch, row: int) -> Batch:
    here = slice(row, row + 1)
    mask = None if batch.mask_BL is None or bool(batch.mask_BL[row].all()) else batch.mask_BL[here]
    return Batch(batch.input_ids_BL[here], mask)


def _signals_of_row(signals: Signals, row: int) -> Signals:
    here = slice(row, row + 1)
    queries, keys, values = (
        {layer: x[here] for layer, x in part.items()} for part in (signals.queries, signals.keys, signals.values)
    )
    output = None if signals.output_BLH is None else signals.output_BLH[here]
    return Signals(queries, keys, values, output_BLH=output)
