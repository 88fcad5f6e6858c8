"""State of a search: the candidates, their losses on each rung, which are still in, and the work to do next.

The board is plain Python and knows nothing of Tune. A *generation* of candidates is divided into *lots*. A lot is the
work of one trial on one rung: candidates of one sub-space, about as much work as every other lot. When all lots have
scored a rung, the board drops candidates and divides the survivors into new lots. The most expensive lots come first,
so that the actors finish a rung together. Decisions depend on the losses alone, not on the order in which they arrive
or on the number of actors. So a search that was killed and continued comes to the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workloads.craft.scoring import Losses
from workloads.runs.search.history import Tried
from workloads.runs.search.rules import (
    OVER_BUDGET,
    WORSE_HALF,
    Axes,
    Candidate,
    Feasible,
    budget_drops,
    cost_axes,
    feasible_sets,
    frontier_drops,
)
from workloads.shapes.architecture import TeacherShape
from workloads.shapes.costs import student_cost
from workloads.spec.budgets import Budget
from workloads.spec.search import SearchSpec

LARGEST_LOT, LOTS_AN_ACTOR = 16, 4
"""Most candidates of a lot, and approximate number of lots per actor on a rung. A kill loses the lots in progress, so
lots are small."""
WORK_LENGTH = 128
"""Sequence length at which work is counted, to make even lots."""
Known = Mapping[tuple[Candidate, int], Losses]
"""Losses of an earlier attempt, by candidate and the first row of the rung."""


@dataclass(frozen=True)
class Aim:
    """Settings that decide which candidates are dropped.

    Attributes:
        spec: The request's settings, with the aim and the rungs.
        shape: The teacher's shape, to count costs.
        budgets: The budgets; used only by the aim ``budgets``.
        keep: Least number of candidates to keep for each budget.
    """

    spec: SearchSpec
    shape: TeacherShape
    budgets: Sequence[Budget] = ()
    keep: int = 1


@dataclass
class Entry:
    """A candidate on the board.

    Attributes:
        axes: Its costs; see :func:`workloads.runs.search.rules.cost_axes`.
        losses: Losses on the rows of all its rungs so far.
        work: Multiply-accumulates per row, to make even lots.
        rung: The last rung it was scored on; -1 for none.
        dropped: Why it was dropped; None while it is in.
        dropped_for: Number of the better candidate that it was dropped for, if any.
    """

    candidate: Candidate
    axes: Axes
    work: int
    losses: Losses = field(default_factory=lambda: np.empty(0))
    rung: int = -1
    dropped: str | None = None
    dropped_for: int | None = None


@dataclass(frozen=True)
class Work:
    """Work of an actor: candidates of one sub-space to score on the new rows of a rung, ``start`` to ``stop``."""

    rung: int
    start: int
    stop: int
    subspace: str
    candidates: tuple[tuple[int, Candidate], ...]

    def __str__(self) -> str:
        return f"{self.subspace}-{self.rung}"


class Board:
    """Candidates of a search with their losses; see the module.

    Args:
        aim: Decides which candidates are dropped.
        rows: Number of held-out rows; no rung has more.
        group: Number of consecutive rows that the objective compares; rungs are cut to whole groups.
        actors: Number of actors that score at once; decides only the size of the lots.
        known: Losses of an earlier attempt; they are not computed again.
        on_progress: Called whenever candidates are scored or dropped.
    """

    def __init__(
        self,
        aim: Aim,
        *,
        rows: int,
        actors: int,
        known: Known | None = None,
        on_progress: Callable[[], None],
        group: int = 1,
    ) -> None:
        self.entries: list[Entry] = []
        whole = rows // group * group
        self.rungs = tuple(dict.fromkeys(min(-(-rung // group) * group, whole) for rung in aim.spec.rungs))
        self.rung = 0
        self.lots: dict[int, tuple[int, ...]] = {}
        """Map of lot to the numbers of its candidates, for this generation."""
        self.waiting: set[int] = set()
        """Lots that have not reported this rung's losses."""
        self.ended = False
        """Whether the search is over."""
        self.diverged: Candidate | None = None
        self._aim = aim
        self._actors = actors
        self._known = known or {}
        self._on_progress = on_progress
        self._numbers: dict[Candidate, int] = {}
        self._sets: list[Feasible] = []
        self._lots_made = 0

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its searcher although we never restore it; callbacks hold locks and cannot be pickled.
        return self.__dict__ | {"_on_progress": None}

    @property
    def alive(self) -> list[int]:
        """Numbers of the candidates that were not dropped."""
        return [number for number, entry in enumerate(self.entries) if entry.dropped is None]

    def history(self) -> list[Tried]:
        """Return every candidate so far with its result."""
        return [
            Tried(
                entry.candidate,
                entry.axes,
                float(entry.losses.mean()) if len(entry.losses) else None,
                entry.dropped is None,
                frozenset(index for index, one in enumerate(self._sets) if number in one.members),
            )
            for number, entry in enumerate(self.entries)
        ]

    @property
    def done(self) -> int:
        """Number of candidates that were dropped or were scored on the last rung."""
        last = len(self.rungs) - 1
        return sum(entry.dropped is not None or entry.rung == last for entry in self.entries)

    def begin(self, candidates: Sequence[Candidate]) -> list[int]:
        """Start a generation with the candidates that are new to the board, and give its lots."""
        assert not self.waiting, "the previous generation is still being scored"
        fresh = [one for one in dict.fromkeys(candidates) if one not in self._numbers]
        for one in fresh:
            self._numbers[one] = len(self.entries)
            work = student_cost(self._aim.shape, one.architecture, WORK_LENGTH).flops
            self.entries.append(Entry(one, cost_axes(self._aim.shape, one.architecture), work))
        self._drop_over_budget()
        self.rung = 0
        self.lots = {}
        numbers = [self._numbers[one] for one in fresh]
        self._deal([number for number in numbers if self.entries[number].dropped is None])
        self._on_progress()
        return list(self.lots)

    def work(self, lot: int) -> Work:
        """Return the work of a lot; it has no candidates if all their losses are known."""
        start = self.rungs[self.rung - 1] if self.rung else 0
        members = [(number, self.entries[number].candidate) for number in self.lots[lot]]
        unknown = tuple((number, one) for number, one in members if (one, start) not in self._known)
        return Work(self.rung, start, self.rungs[self.rung], members[0][1].subspace, unknown)

    def report(self, lot: int, scores: Mapping[int, Losses]) -> None:
        """Record the losses of a lot; after the rung's last lot, drop candidates and start the next rung."""
        assert lot in self.waiting, lot
        for number in self.lots[lot]:
            entry = self.entries[number]
            new = scores[number] if number in scores else self._known[entry.candidate, len(entry.losses)]
            if not np.isfinite(new).all():
                self.diverged = entry.candidate
                self.end()
                return
            entry.losses = np.concatenate([entry.losses, new])
            entry.rung = self.rung
            self._on_progress()
        self.waiting.discard(lot)
        if not self.waiting:
            self._close()

    def end(self) -> None:
        """End the search."""
        self.waiting.clear()
        self.ended = True

    def _drop_over_budget(self) -> None:
        """Drop the candidates that can answer no budget, before they are scored."""
        if self._aim.spec.aim != "budgets":
            return
        entries = {number: entry.candidate for number, entry in enumerate(self.entries)}
        self._sets = feasible_sets(entries, self._aim.shape, self._aim.budgets)
        wanted = frozenset().union(*(one.members for one in self._sets))
        for number in self.alive:
            if number not in wanted:
                self.entries[number].dropped = OVER_BUDGET

    def _close(self) -> None:
        last = self.rung == len(self.rungs) - 1
        if last:
            return
        for number, by in self._drops().items():
            entry = self.entries[number]
            entry.dropped_for = by
            if by is None:
                entry.dropped = WORSE_HALF
            else:
                better = self.entries[by].candidate
                entry.dropped = f"{better.architecture.describe()} of {better.subspace}"
        self.rung += 1
        survivors = [number for lot in self.lots.values() for number in lot if self.entries[number].dropped is None]
        self._deal(survivors)
        self._on_progress()

    def _drops(self) -> Mapping[int, int | None]:
        alive = self.alive
        axes = {number: self.entries[number].axes for number in alive}
        losses = {number: self.entries[number].losses for number in alive}
        match self._aim.spec.aim:
            case "all":
                return {}
            case "frontier":
                return frontier_drops(alive, axes, losses)
            case "budgets":
                # Only candidates on the same rung are compared; survivors of earlier generations have passed it.
                on_rung = [number for number in alive if self.entries[number].rung == self.rung]
                return budget_drops(on_rung, self._sets, axes, losses, self._aim.keep)

    def _deal(self, numbers: Sequence[int]) -> None:
        """Divide candidates into lots of one sub-space each; after the first rung, reuse the existing lots."""
        work = {number: self.entries[number].work for number in numbers}
        even = sum(work.values()) / (LOTS_AN_ACTOR * self._actors)
        names = list(self.lots) if self.rung else []
        most, largest = even, LARGEST_LOT
        dealt = self._even_lots(work, most, largest)
        while self.rung and len(dealt) > len(names):
            most, largest = 1.25 * most, largest + 1
            dealt = self._even_lots(work, most, largest)
        while len(names) < len(dealt):
            names.append(self._lots_made)
            self._lots_made += 1
        self.lots = dict(zip(names, dealt, strict=False))
        self.waiting = set(self.lots)

    def _even_lots(self, work: Mapping[int, int], most: float, largest: int) -> list[tuple[int, ...]]:
        """Make lots of at most ``largest`` candidates and ``most`` work; a single candidate may have more work.

        All lots of the sub-space with the most expensive candidate come first, so that an actor seldom changes its
        SuperLM.
        """
        by_space: dict[str, list[list[int]]] = {}
        room: dict[str, float] = {}
        for number in sorted(work, key=lambda one: (-work[one], one)):
            space = self.entries[number].candidate.subspace
            lots = by_space.setdefault(space, [])
            if not lots or len(lots[-1]) == largest or room[space] < work[number]:
                lots.append([])
                room[space] = most
            lots[-1].append(number)
            room[space] -= work[number]
        return [tuple(lot) for lots in by_space.values() for lot in lots]
