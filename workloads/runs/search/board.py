"""The board of a search: its candidates, what they scored on each rung, who is still in, and what is to be scored next.

Plain Python: Tune's trials come and go around it. A *generation* of candidates is dealt into *lots*. A lot is what one
trial scores in one go: candidates of one sub-space, about as much work as any other lot. All lots score a rung; then it
is decided who goes, and the survivors are dealt into lots anew. The dearest lots come first, so that actors finish a
rung together. What is decided depends on scores alone, never on their order in time or on how many actors there are; a
search that goes on after a kill therefore comes to the same end.
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
"""Candidates of a lot at most, and lots of a rung for each actor about: a kill costs the lots that are being scored."""
WORK_LENGTH = 128
"""Tokens that work is counted at, to deal even lots."""
Known = Mapping[tuple[Candidate, int], Losses]
"""Losses that are known already, by candidate and the first row of the rung."""


@dataclass(frozen=True)
class Aim:
    """What decides who goes.

    Attributes:
        spec: For ``aim`` and the rungs.
        shape: Of the teacher, to count costs.
        budgets: Only the aim ``budgets`` looks at them.
        keep: So many of each budget are kept at least.
    """

    spec: SearchSpec
    shape: TeacherShape
    budgets: Sequence[Budget] = ()
    keep: int = 1


@dataclass
class Entry:
    """A candidate on the board.

    Attributes:
        losses: On the rows of all its rungs so far.
        work: Multiply-accumulates a row, to deal even lots.
        rung: The last rung it was scored on; -1 for none.
        dropped: Why it went, None while it is in.
        dropped_for: The number of the candidate that outdoes it, where that is why.
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
    """What an actor is to score: some candidates of a sub-space on the new rows of a rung."""

    rung: int
    start: int
    stop: int
    subspace: str
    candidates: tuple[tuple[int, Candidate], ...]

    def __str__(self) -> str:
        return f"{self.subspace}-{self.rung}"


class Board:
    """See the module.

    Args:
        aim: What decides who goes.
        rows: Held-out rows that there are; rungs beyond them end there.
        group: So many consecutive rows stay together: rungs end with whole groups.
        actors: How many score at once; decides the size of the lots and nothing else.
        known: Losses from an earlier attempt; they are not scored again.
        on_progress: Called whenever candidates are done with.
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
        """The numbers of the candidates of each lot of this generation."""
        self.waiting: set[int] = set()
        """Lots whose scores of this rung are outstanding."""
        self.ended = False
        """Whether nothing is left to score, nor ever will be."""
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
        """The numbers of all that have not gone."""
        return [number for number, entry in enumerate(self.entries) if entry.dropped is None]

    def history(self) -> list[Tried]:
        """Give what became of every candidate so far."""
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
        """Candidates that have gone or were scored to the end."""
        last = len(self.rungs) - 1
        return sum(entry.dropped is not None or entry.rung == last for entry in self.entries)

    def begin(self, candidates: Sequence[Candidate]) -> list[int]:
        """Begin a generation, without those that are on the board already, and give its lots."""
        assert not self.waiting, "the generation before is still at it"
        fresh = [one for one in dict.fromkeys(candidates) if one not in self._numbers]
        for one in fresh:
            self._numbers[one] = len(self.entries)
            work = student_cost(self._aim.shape, one.architecture, WORK_LENGTH).flops
            self.entries.append(Entry(one, cost_axes(self._aim.shape, one.architecture), work))
        self._gate()
        self.rung = 0
        self.lots = {}
        numbers = [self._numbers[one] for one in fresh]
        self._deal([number for number in numbers if self.entries[number].dropped is None])
        self._on_progress()
        return list(self.lots)

    def work(self, lot: int) -> Work:
        """What is to be scored of a lot; may be nothing, where all of it is known already."""
        start = self.rungs[self.rung - 1] if self.rung else 0
        members = [(number, self.entries[number].candidate) for number in self.lots[lot]]
        unknown = tuple((number, one) for number, one in members if (one, start) not in self._known)
        return Work(self.rung, start, self.rungs[self.rung], members[0][1].subspace, unknown)

    def report(self, lot: int, scores: Mapping[int, Losses]) -> None:
        """Take what a lot scored; after the rung's last lot it is decided who goes."""
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
        """Nothing more is to be scored."""
        self.waiting.clear()
        self.ended = True

    def _gate(self) -> None:
        """Without scoring them, drop those that no budget is answered from."""
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
                # The halves are of those on the same rung; survivors of earlier generations have passed theirs.
                ours = [number for number in alive if self.entries[number].rung == self.rung]
                return budget_drops(ours, self._sets, axes, losses, self._aim.keep)

    def _deal(self, numbers: Sequence[int]) -> None:
        """Deal candidates into lots of one sub-space each; after the first rung into lots that there are."""
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
        """Give lots of up to ``largest`` candidates and ``most`` work, if not of a single candidate.

        The sub-space with the dearest candidate comes first, whole, so that an actor seldom changes its SuperLM.
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
