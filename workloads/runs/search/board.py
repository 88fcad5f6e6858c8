"""The board of a search: its candidates, what they scored on each rung, who is still in, and what is to be scored next.

Plain Python: Tune's trials come and go around it. A *generation* of candidates is dealt into *lots*; a lot is what one
trial scores in one go, as a trial for a single small candidate would cost more than the scoring. All lots score a rung,
then it is decided who goes, and the survivors are dealt into lots anew. Lots follow the sub-spaces, so that an actor
seldom changes its SuperLM. What is decided depends on scores alone, never on their order in time or on how many actors
there are; a search that is taken up again therefore comes to the same end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workloads.craft.scoring import Losses
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
from workloads.spec.budgets import Budget
from workloads.spec.search import SearchSpec

LARGEST_LOT, LOTS_AN_ACTOR = 8, 4
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
        rung: The last rung it was scored on; -1 for none.
        dropped: Why it went, None while it is in.
        dropped_for: The number of the candidate that outdoes it, where that is why.
    """

    candidate: Candidate
    axes: Axes
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
        actors: How many score at once; decides the size of the lots and nothing else.
        known: Losses from an earlier attempt; they are not scored again.
        on_progress: Called whenever candidates are done with.
    """

    def __init__(
        self, aim: Aim, *, rows: int, actors: int, known: Known | None = None, on_progress: Callable[[], None]
    ) -> None:
        self.entries: list[Entry] = []
        self.rungs = tuple(dict.fromkeys(min(rung, rows) for rung in aim.spec.rungs))
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
        # Tune pickles its searcher for a restore that is never asked for; what listens may hold locks.
        return self.__dict__ | {"_on_progress": None}

    @property
    def alive(self) -> list[int]:
        """The numbers of all that have not gone."""
        return [number for number, entry in enumerate(self.entries) if entry.dropped is None]

    @property
    def memberships(self) -> list[frozenset[int]]:
        """The candidates that each budget is answered from; empty where budgets are not aimed at."""
        return [one.members for one in self._sets]

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
            self.entries.append(Entry(one, cost_axes(self._aim.shape, one.architecture)))
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
        """Deal candidates into lots, one sub-space after the other; after the first rung into lots that there are."""
        by_space: dict[str, list[int]] = {}
        for number in numbers:
            by_space.setdefault(self.entries[number].candidate.subspace, []).append(number)
        size = max(1, min(LARGEST_LOT, math.ceil(len(numbers) / (LOTS_AN_ACTOR * self._actors))))
        if self.rung:
            while sum(math.ceil(len(members) / size) for members in by_space.values()) > len(self.lots):
                size += 1
            names = list(self.lots)
        else:
            names = []
        dealt = [
            tuple(members[start : start + size])
            for members in by_space.values()
            for start in range(0, len(members), size)
        ]
        while len(names) < len(dealt):
            names.append(self._lots_made)
            self._lots_made += 1
        self.lots = dict(zip(names, dealt, strict=False))
        self.waiting = set(self.lots)
