"""Scoring: the losses of subnets on held-out text. The teacher is run once for all of them.

Losses are kept by row. So two subnets can be compared on the same rows, where most of the noise is common to both, and
scoring more of the text costs only its new rows.

The teacher's signals, which are kept, grow with the length of a row. The targets made from them, such as
``[B, R, L, L]`` for relations, grow with its square. They are computed for one batch at a time, once for all subnets
that are scored together; :class:`TargetsCache` keeps them for the next subnets.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from workloads.craft.blocks import TokenRows
from workloads.craft.objectives.objective import Counts, Objective, Targets
from workloads.craft.objectives.relation import Relation
from workloads.craft.objectives.term import LearnedMaps
from workloads.craft.products import fast_models
from workloads.craft.signals import Batch, Signals
from workloads.craft.superlm import SuperLM
from workloads.shapes.architecture import Architecture

if TYPE_CHECKING:
    from workloads.craft.teacher import Teacher

Losses = npt.NDArray[np.float64]
"""One loss for each held-out row; their mean is the score."""
MOST_RELATION_VALUES = 1 << 24
"""Most values of a relation's targets in memory at once (64 MiB); only a single group of rows may have more."""
CACHED_BYTES = 256 << 20
"""Most bytes of targets that a :class:`TargetsCache` keeps."""


@dataclass(frozen=True)
class Heldout:
    """Held-out text, and the teacher's signals for it.

    Attributes:
        batches: The rows.
        signals: The teacher's signals for each batch.
        counts: Counts of all batches together, so that the mean loss of the rows is the loss of the whole text.
        head_order: Order of the dimensions of the attention width, ``[A]``, in which a SuperLM reads the teacher's
            last layer; None if its heads were not reordered.
    """

    batches: tuple[Batch, ...]
    signals: tuple[Signals, ...]
    counts: Counts
    head_order: Tensor | None = None

    @classmethod
    @torch.no_grad()
    def read(cls, teacher: Teacher, objective: Objective, batches: Sequence[Batch]) -> Heldout:
        """Run the teacher on every batch, on the device of both; the signals are the same for every head order."""
        with fast_models():
            signals = [teacher.read(batch, objective.teacher_wants) for batch in batches]
        return cls(tuple(batches), tuple(signals), cls.count(objective, batches))

    @staticmethod
    def count(objective: Objective, batches: Sequence[Batch]) -> Counts:
        """Count all batches together."""
        counts = [objective.counts(batch) for batch in batches]
        return Counts(
            sum(count.rows for count in counts),
            sum(count.tokens for count in counts),
            sum(count.pairs for count in counts),
        )

    def ordered(self, head_order: Sequence[int] | None) -> Heldout:
        """Return the same text and signals, for a SuperLM with this head order."""
        return dataclasses.replace(self, head_order=None if head_order is None else torch.tensor(head_order))

    def between(self, start: int, stop: int) -> Iterator[tuple[Batch, Signals]]:
        """Yield the batches of the rows ``start`` to ``stop``, which must both lie between batches."""
        end = 0
        for batch, signals in zip(self.batches, self.signals, strict=True):
            begin, end = end, end + len(batch.input_ids_BL)
            if end > start and begin < stop:
                assert start <= begin and end <= stop, (start, begin, end, stop)
                yield batch, signals


class TargetsCache:
    """Targets of one rung for one head order, kept from lot to lot as far as they fit in ``most_bytes``.

    It serves one objective and one held-out text. Another rung or head order empties it, since lots of one sub-space
    and rung follow one another.
    """

    def __init__(self, most_bytes: int = CACHED_BYTES) -> None:
        self._most_bytes = most_bytes
        self._of: tuple[range, tuple[int, ...] | None] | None = None
        self._kept: dict[int, Targets] = {}
        self._bytes = 0

    def open(self, rows: range, head_order: Tensor | None) -> None:
        """Keep targets of these rows in this head order from now on."""
        of = rows, None if head_order is None else tuple(head_order.tolist())
        if of != self._of:
            self._of, self._kept, self._bytes = of, {}, 0

    def get_or_make(self, number: int, make: Callable[[], Targets]) -> Targets:
        """Return the targets of the rung's batch ``number``; those made are kept if they fit."""
        if number in self._kept:
            return self._kept[number]
        targets = make()
        size = _bytes_of(targets)
        if self._bytes + size <= self._most_bytes:
            self._kept[number] = targets
            self._bytes += size
        return targets


def _bytes_of(value: Any) -> int:
    """Count the bytes of all tensors in nested tuples, dicts and dataclasses."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, tuple):
        return sum(map(_bytes_of, value))
    if isinstance(value, dict):
        return sum(map(_bytes_of, value.values()))
    if dataclasses.is_dataclass(value):
        return sum(_bytes_of(getattr(value, one.name)) for one in dataclasses.fields(value))
    return 0


@dataclass(frozen=True)
class Subject:
    """A student to score: a subnet of a SuperLM, or a model of its own.

    Attributes:
        read: Returns the signals of a batch that the objective wants.
        maps: Its learned maps.
    """

    read: Callable[[Batch], Signals]
    maps: LearnedMaps


def rows_at_once(objective: Objective, length: int, most: int) -> int:
    """Return how many rows of this length to score at once.

    They are at most ``most``, whole groups, and have targets of at most :data:`MOST_RELATION_VALUES`; but one group at
    least.
    """
    heads = max((term.loss.heads for term in objective.terms if isinstance(term, Relation)), default=0)
    rows = min(most, MOST_RELATION_VALUES // max(1, heads * length * length))
    return max(1, rows // objective.group) * objective.group


def heldout_batches(rows: TokenRows, batch_size: int, ends: Sequence[int] = ()) -> tuple[Batch, ...]:
    """Cut held-out rows into batches; those without padding have no mask.

    Args:
        rows: The held-out rows.
        batch_size: Most rows of a batch.
        ends: Row numbers at which a batch must end: the rungs of a search.
    """
    ids_BL, mask_BL, types_BL = (None if part is None else torch.from_numpy(part) for part in rows)
    assert ids_BL is not None
    stops = sorted({*(end for end in ends if end < len(ids_BL)), len(ids_BL)})
    batches = []
    start = 0
    while start < len(ids_BL):
        stop = min(start + batch_size, stops[bisect.bisect_right(stops, start)])
        part = slice(start, stop)
        mask = None if mask_BL is None or bool(mask_BL[part].all()) else mask_BL[part]
        batches.append(Batch(ids_BL[part], mask, None if types_BL is None else types_BL[part]))
        start = stop
    return tuple(batches)


def score_rows(
    superlm: SuperLM,
    architectures: Sequence[Architecture],
    objective: Objective,
    heldout: Heldout,
    rows: range | None = None,
    cache: TargetsCache | None = None,
) -> list[Losses]:
    """Compute the loss of each subnet on each of some held-out rows, without dropout.

    A row's loss is its share of the loss of all rows, times their number. So the mean over all rows is the mean over
    the rows, real tokens or token pairs (whichever a term counts) of all held-out text, for any division into batches.

    Args:
        superlm: The SuperLM, on the device to score on; its training mode is restored afterwards.
        architectures: The subnets.
        objective: The objective that ``heldout`` was read for.
        heldout: The held-out text in the SuperLM's head order.
        rows: The rows to score, all by default; a batch must begin at the first and one must end with the last.
        cache: Targets of earlier subnets, on the SuperLM's device.

    Returns:
        For each subnet, one loss a row.
    """
    rows = range(heldout.counts.rows) if rows is None else rows
    training = superlm.training
    superlm.eval()
    try:
        losses_SR = losses_on_device(superlm, architectures, objective, heldout, rows, cache)
    finally:
        superlm.train(training)
    return _as_losses(losses_SR, heldout)


def losses_on_device(
    superlm: SuperLM,
    architectures: Sequence[Architecture],
    objective: Objective,
    heldout: Heldout,
    rows: range,
    cache: TargetsCache | None = None,
) -> Tensor:
    """Compute each row's share of each subnet's loss, ``[subnets, rows]``, on the SuperLM's device."""
    subjects = [
        Subject(functools.partial(superlm, architecture=one, wants=objective.student_wants(one)), superlm.learned_map)
        for one in architectures
    ]
    cache = cache or TargetsCache(most_bytes=0)
    cache.open(rows, heldout.head_order)
    return _shares(subjects, objective, heldout, rows, superlm.flat.decay.device, cache)


def score_subject(
    subject: Subject, objective: Objective, heldout: Heldout, rows: range, device: torch.device
) -> Losses:
    """Compute the loss of a student on each of some held-out rows; see :func:`score_rows`."""
    shares_1R = _shares([subject], objective, heldout, rows, device, TargetsCache(most_bytes=0))
    (losses,) = _as_losses(shares_1R, heldout)
    return losses


def _as_losses(shares_SR: Tensor, heldout: Heldout) -> list[Losses]:
    return list(shares_SR.cpu().numpy().astype(np.float64) * heldout.counts.rows)  # the device is waited for once


@torch.no_grad()
def _shares(
    subjects: Sequence[Subject],
    objective: Objective,
    heldout: Heldout,
    rows: range,
    device: torch.device,
    cache: TargetsCache,
) -> Tensor:
    order = None if heldout.head_order is None else heldout.head_order.to(device)
    shares: list[list[Tensor]] = [[] for _ in subjects]
    for number, (batch, signals) in enumerate(heldout.between(rows.start, rows.stop)):
        batch = batch.to(device)
        make = functools.partial(_targets, objective, signals, batch, order)
        targets = cache.get_or_make(number, make)
        for subject, share in zip(subjects, shares, strict=True):
            share.append(objective.loss_rows(subject.read(batch), targets, batch, heldout.counts, subject.maps))
    return torch.stack([torch.cat(share) for share in shares])


def _targets(objective: Objective, signals: Signals, batch: Batch, order: Tensor | None) -> Targets:
    return objective.targets(signals.to(batch.input_ids_BL.device), batch, order)


def score(superlm: SuperLM, architecture: Architecture, objective: Objective, heldout: Heldout) -> float:
    """Compute the mean loss of one subnet over all held-out text; see :func:`score_rows`."""
    (losses,) = score_rows(superlm, [architecture], objective, heldout)
    return float(losses.mean())
