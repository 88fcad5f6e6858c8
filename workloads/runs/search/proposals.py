"""Which candidates are tried: all, a random sample, or generations of an evolution. Plain Python, no Ray.

A proposer gives generation after generation until one is empty, and never the same candidate twice. Only the
exhaustive one lists its sub-spaces; the others draw.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from workloads.runs.search.board import Board
from workloads.runs.search.rules import Candidate
from workloads.shapes.search_space import Genes, Space, draw_genes
from workloads.spec.search import SearchSpec

PATIENCE = 200
"""After so many draws in a row that give nothing new, a sub-space counts as used up."""

Allowed = Callable[[Candidate], bool]
"""Whether a candidate may be proposed at all: whether it meets one of the budgets, where they are what is aimed at."""


class Proposer(Protocol):
    """Gives candidates, a generation at a time."""

    def propose(self, board: Board) -> list[Candidate]:
        """Give the next generation, from what the board says of those before; empty when all were given."""
        ...


def proposer_for(spec: SearchSpec, spaces: Sequence[Space], seed: int, allowed: Allowed) -> Proposer:
    """Give the proposer that a request asks for."""
    if spec.searcher == "exhaustive":
        return Exhaustive(spaces)
    assert spec.candidates is not None
    if spec.searcher == "random":
        return RandomSample(spaces, spec.candidates, seed, allowed)
    return Evolution(spaces, spec, seed, allowed)


class Exhaustive:
    """Every candidate of every sub-space, in one generation."""

    def __init__(self, spaces: Sequence[Space]) -> None:
        self._spaces: Sequence[Space] | None = spaces

    def propose(self, board: Board) -> list[Candidate]:
        """See the protocol."""
        spaces, self._spaces = self._spaces or (), None
        return [Candidate(space.name, one) for space in spaces for one in space]


class RandomSample:
    """A random sample in one generation, the same number of each sub-space as far as it has them.

    The smallest of each sub-space is always among them, so that a tight budget has its nearest candidate.
    """

    def __init__(self, spaces: Sequence[Space], count: int, seed: int, allowed: Allowed) -> None:
        self._pool = _Pool(spaces, seed, allowed)
        self._left = count

    def propose(self, board: Board) -> list[Candidate]:
        """See the protocol."""
        count, self._left = self._left, 0
        return self._pool.first(count) if count else []


class Evolution:
    """Generations by selection, crossover and mutation, each inside one sub-space.

    The first generation is a random sample. A parent is the better of two drawn survivors: where budgets are aimed at,
    by loss, of those that meet a budget that is drawn too; else by how many survivors cost no more and have a lower
    loss, so that every part of the frontier has children. A child takes each of its ranges from one of two
    parents, and draws it anew with the chance ``mutation``. A child that was there already, or that no budget allows,
    is bred again, and where that leads to nothing new, candidates are drawn as at first. The search ends before
    ``candidates`` were tried when nothing new is to be had at all.
    """

    def __init__(self, spaces: Sequence[Space], spec: SearchSpec, seed: int, allowed: Allowed) -> None:
        assert spec.candidates is not None
        self._pool = _Pool(spaces, seed, allowed)
        self._spec = spec
        self._left = spec.candidates
        self._begun = False

    def propose(self, board: Board) -> list[Candidate]:
        """See the protocol."""
        count = min(self._spec.population, self._left)
        if not self._begun:
            self._begun = True
            made = self._pool.first(count)
        else:
            made = self._children(board, count) if count else []
        self._left -= len(made)
        return made

    def _children(self, board: Board, count: int) -> list[Candidate]:
        if not (parents := self._parents(board)):
            return self._pool.drawn(count)
        children: list[Candidate] = []
        fruitless = 0
        while len(children) < count and fruitless < PATIENCE:
            one = self._select(parents)
            mates = [other for other in parents if other.subspace == one.subspace]
            child = self._pool.cross(one.candidate, self._select(mates).candidate, self._spec.mutation)
            if child is None:
                fruitless += 1
            else:
                children.append(child)
                fruitless = 0
        return children + self._pool.drawn(count - len(children))

    def _parents(self, board: Board) -> list[_Parent]:
        alive = [(number, board.entries[number]) for number in board.alive]
        scored = [(number, entry, float(entry.losses.mean())) for number, entry in alive if entry.rung >= 0]
        by_axes = [(entry.axes, loss) for _, entry, loss in scored]
        memberships = board.memberships
        return [
            _Parent(
                entry.candidate,
                loss,
                sum(
                    other < loss and all(a <= b for a, b in zip(axes, entry.axes, strict=True))
                    for axes, other in by_axes
                ),
                frozenset(index for index, members in enumerate(memberships) if number in members),
            )
            for number, entry, loss in scored
        ]

    def _select(self, parents: Sequence[_Parent]) -> _Parent:
        draw = self._pool.draw
        if budgets := sorted(frozenset().union(*(parent.budgets for parent in parents))):
            budget = draw.choice(budgets)
            within = [parent for parent in parents if budget in parent.budgets]
            return min(draw.choice(within), draw.choice(within), key=lambda parent: parent.loss)
        return min(draw.choice(parents), draw.choice(parents), key=lambda parent: parent.outdone)


class _Parent(NamedTuple):
    """A survivor: how many outdo it, and the budgets that it meets, where they are aimed at."""

    candidate: Candidate
    loss: float
    outdone: int
    budgets: frozenset[int]

    @property
    def subspace(self) -> str:
        return self.candidate.subspace


class _Pool:
    """Draws and crosses candidates that were not given before."""

    def __init__(self, spaces: Sequence[Space], seed: int, allowed: Allowed) -> None:
        self.draw = random.Random(seed)
        self._spaces = {space.name: space for space in spaces}
        self._allowed = allowed
        self._given: dict[Candidate, Genes] = {}

    def first(self, count: int) -> list[Candidate]:
        """Give the smallest of each sub-space, whether a budget allows them or not, and draw the rest."""
        made: list[Candidate] = []
        for space in self._spaces.values():
            if len(made) < count:
                made.append(self._give(space, space.smallest_genes))
        return made + self.drawn(count - len(made))

    def drawn(self, count: int) -> list[Candidate]:
        """Draw new candidates, from the sub-spaces in turn; fewer where they are used up."""
        made: list[Candidate] = []
        streams = [self._stream(space) for space in self._spaces.values()]
        while streams and len(made) < count:
            stream = streams.pop(0)
            if (one := next(stream, None)) is not None:
                made.append(one)
                streams.append(stream)
        return made

    def cross(self, one: Candidate, other: Candidate, mutation: float) -> Candidate | None:
        """Give a child of two candidates of a sub-space; None if it is not new or not allowed."""
        space = self._spaces[one.subspace]
        genes = tuple(
            drawn if self.draw.random() < mutation else self._given[self.draw.choice((one, other))][place]
            for place, drawn in enumerate(draw_genes(space, self.draw))
        )
        return self._give(space, genes) if self._is_new(space, genes) else None

    def _stream(self, space: Space) -> Iterator[Candidate]:
        fruitless = 0
        while fruitless < PATIENCE:
            genes = draw_genes(space, self.draw)
            if self._is_new(space, genes):
                fruitless = 0
                yield self._give(space, genes)
            else:
                fruitless += 1

    def _is_new(self, space: Space, genes: Genes) -> bool:
        candidate = Candidate(space.name, space.point(genes))
        return candidate not in self._given and self._allowed(candidate)

    def _give(self, space: Space, genes: Genes) -> Candidate:
        candidate = Candidate(space.name, space.point(genes))
        self._given[candidate] = genes
        return candidate
