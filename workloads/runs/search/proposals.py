"""Proposers: they choose the candidates to try, which are all, a random sample, or generations of an evolution.

A proposer gives generations until one is empty, and never the same candidate twice. Only the exhaustive proposer
enumerates the sub-spaces; the others draw at random. Proposers do not use Ray.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from typing_extensions import override

from workloads.answers.frontier import times_dominated
from workloads.runs.search.history import History
from workloads.runs.search.rules import Candidate
from workloads.shapes.search_space import Genes, Space, draw_genes
from workloads.spec.search import SearchSpec

PATIENCE = 200
"""Number of draws in a row without a new candidate after which a sub-space counts as exhausted."""

Allowed = Callable[[Candidate], bool]
"""Whether a candidate may be proposed. If budgets are the aim, it must meet one of them."""


class Proposer(Protocol):
    """Source of candidates, a generation at a time."""

    def propose(self, history: History) -> list[Candidate]:
        """Return the next generation, which may depend on the results of the earlier ones; empty at the end."""
        ...


def proposer_for(spec: SearchSpec, spaces: Sequence[Space], seed: int, allowed: Allowed) -> Proposer:
    """Make the proposer that a request asks for."""
    if spec.searcher == "exhaustive":
        return Exhaustive(spaces)
    assert spec.candidates is not None
    if spec.searcher == "random":
        return RandomSample(spaces, spec.candidates, seed, allowed)
    return Evolution(spaces, spec, seed, allowed)


class Exhaustive(Proposer):
    """Proposer of every candidate of every sub-space, in one generation."""

    def __init__(self, spaces: Sequence[Space]) -> None:
        self._spaces: Sequence[Space] | None = spaces

    @override
    def propose(self, history: History) -> list[Candidate]:
        spaces, self._spaces = self._spaces or (), None
        return [Candidate(space.name, one) for space in spaces for one in space]


class RandomSample(Proposer):
    """Proposer of a random sample in one generation, spread evenly over the sub-spaces while they have candidates.

    The sample always has the smallest candidate of each sub-space, which comes nearest to a tight budget.
    """

    def __init__(self, spaces: Sequence[Space], count: int, seed: int, allowed: Allowed) -> None:
        self._pool = _Pool(spaces, seed, allowed)
        self._left = count

    @override
    def propose(self, history: History) -> list[Candidate]:
        count, self._left = self._left, 0
        return self._pool.first(count) if count else []


class Evolution(Proposer):
    """Proposer of generations by selection, crossover and mutation; the two parents are of one sub-space.

    The first generation is a random sample. A parent is the better of two randomly drawn survivors. If budgets are the
    aim, both are drawn among the survivors of one random budget, and the lower loss is better. Otherwise the one that
    fewer survivors beat in cost and loss is better, so that every part of the frontier has children. A child takes each
    gene from one of its parents; with probability ``mutation`` the gene is drawn at random. A child that was proposed
    before or that meets no budget is discarded. After :data:`PATIENCE` discarded children in a row, the rest of the
    generation is a random sample. The search tries fewer than ``candidates`` if no new ones are left.
    """

    def __init__(self, spaces: Sequence[Space], spec: SearchSpec, seed: int, allowed: Allowed) -> None:
        assert spec.candidates is not None
        self._pool = _Pool(spaces, seed, allowed)
        self._spec = spec
        self._left = spec.candidates
        self._begun = False

    @override
    def propose(self, history: History) -> list[Candidate]:
        count = min(self._spec.population, self._left)
        if not self._begun:
            self._begun = True
            made = self._pool.first(count)
        else:
            made = self._children(history, count) if count else []
        self._left -= len(made)
        return made

    def _children(self, history: History, count: int) -> list[Candidate]:
        if not (parents := _parents(history)):
            return self._pool.sample(count)
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
        return children + self._pool.sample(count - len(children))

    def _select(self, parents: Sequence[_Parent]) -> _Parent:
        choice = self._pool.random.choice
        if budgets := sorted(frozenset().union(*(parent.budgets for parent in parents))):
            budget = choice(budgets)
            within = [parent for parent in parents if budget in parent.budgets]
            return min(choice(within), choice(within), key=lambda parent: parent.loss)
        return min(choice(parents), choice(parents), key=lambda parent: parent.beaten)


class _Parent(NamedTuple):
    """A survivor, with the number of survivors that beat it and the budgets that it may answer."""

    candidate: Candidate
    loss: float
    beaten: int
    budgets: frozenset[int]

    @property
    def subspace(self) -> str:
        return self.candidate.subspace


def _parents(history: History) -> list[_Parent]:
    scored = [(one, one.loss) for one in history if one.survives and one.loss is not None]
    beaten = times_dominated([(*one.axes, loss) for one, loss in scored])
    return [_Parent(one.candidate, loss, by, one.budgets) for (one, loss), by in zip(scored, beaten, strict=True)]


class _Pool:
    """Source of new candidates, by random draws and by crossing; it never gives one twice."""

    def __init__(self, spaces: Sequence[Space], seed: int, allowed: Allowed) -> None:
        self.random = random.Random(seed)
        self._spaces = {space.name: space for space in spaces}
        self._allowed = allowed
        self._given: dict[Candidate, Genes] = {}

    def first(self, count: int) -> list[Candidate]:
        """Return the smallest candidate of each sub-space, even if it meets no budget, and draw the rest."""
        made: list[Candidate] = []
        for space in self._spaces.values():
            if len(made) < count:
                made.append(self._give(space, space.smallest_genes))
        return made + self.sample(count - len(made))

    def sample(self, count: int) -> list[Candidate]:
        """Draw new candidates from the sub-spaces in turn; fewer if they are exhausted."""
        made: list[Candidate] = []
        streams = [self._stream(space) for space in self._spaces.values()]
        while streams and len(made) < count:
            stream = streams.pop(0)
            if (one := next(stream, None)) is not None:
                made.append(one)
                streams.append(stream)
        return made

    def cross(self, one: Candidate, other: Candidate, mutation: float) -> Candidate | None:
        """Return a child of two candidates of one sub-space; None if it is not new or not allowed."""
        space = self._spaces[one.subspace]
        genes = tuple(
            drawn if self.random.random() < mutation else self._given[self.random.choice((one, other))][place]
            for place, drawn in enumerate(draw_genes(space, self.random))
        )
        return self._give(space, genes) if self._is_new(space, genes) else None

    def _stream(self, space: Space) -> Iterator[Candidate]:
        fruitless = 0
        while fruitless < PATIENCE:
            genes = draw_genes(space, self.random)
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
