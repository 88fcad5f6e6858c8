from __future__ import annotations

import random
import statistics

import pytest

from tests.workloads.runs.search.tables import SHAPE, SPACES, aim, play, quality, spec
from workloads.answers.choosing import Scored, choose
from workloads.runs.search.proposals import Exhaustive, proposer_for
from workloads.runs.search.rules import Candidate, budget_misses
from workloads.shapes.costs import student_cost
from workloads.shapes.search_space import ProductSpace
from workloads.spec.budgets import Budget

HUGE = ProductSpace(
    "huge", tuple(range(1, 13)), tuple(range(64, 769)), tuple(2 + i / 500 for i in range(1001)), tuple(range(1, 13)),
    64, 12,
)  # fmt: skip
RANGES = [ProductSpace("wide", tuple(range(2, 13)), tuple(range(64, 769, 64)), (1.0, 2.0, 3.0, 4.0), None, 64, 12)]


def _everything(candidate: Candidate) -> bool:
    return True


def _inside(candidate: Candidate, spaces: list[ProductSpace]) -> bool:
    (space,) = (space for space in spaces if space.name == candidate.subspace)
    one = candidate.architecture
    layer = one.layers[0]
    heads = one.hidden_size // space.head_width if space.heads is None else layer.heads
    return (
        len(one.layers) in space.layers
        and one.hidden_size in space.hidden_sizes
        and layer.heads == heads
        and (space.heads is None or heads in space.heads)
        and layer.intermediate_size in {int(one.hidden_size * ratio) for ratio in space.mlp_ratios}
    )


def test_the_exhaustive_searcher_gives_every_candidate_once_in_order() -> None:
    board = play(Exhaustive(SPACES), aim(spec(aim="all")))
    expected = [Candidate(space.name, one) for space in SPACES for one in space]
    assert [entry.candidate for entry in board.entries] == expected


@pytest.mark.parametrize("searcher", ["random", "evolutionary"])
def test_drawn_candidates_lie_inside_their_sub_space_and_never_repeat(searcher: str) -> None:
    search = spec(searcher=searcher, candidates=40, population=8)
    scored: list[tuple[Candidate, int]] = []
    board = play(proposer_for(search, SPACES, 3, _everything), aim(search), scored=scored)
    tried = [entry.candidate for entry in board.entries]
    assert len(tried) == 40 == len(set(tried))
    assert all(_inside(one, SPACES) for one in tried)
    assert len(scored) == len(set(scored))
    for space in SPACES:
        assert Candidate(space.name, space.smallest) in tried


@pytest.mark.parametrize("searcher", ["random", "evolutionary"])
def test_a_draw_follows_from_its_seed(searcher: str) -> None:
    def tried(seed: int) -> list[Candidate]:
        search = spec(searcher=searcher, candidates=30, population=8)
        board = play(proposer_for(search, SPACES, seed, _everything), aim(search), noise=0.2)
        return [entry.candidate for entry in board.entries]

    assert tried(1) == tried(1)
    assert tried(1) != tried(2)


@pytest.mark.parametrize("searcher", ["random", "evolutionary"])
def test_a_space_of_millions_is_not_listed(searcher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(space: ProductSpace) -> None:
        raise AssertionError("listed")

    monkeypatch.setattr(ProductSpace, "__iter__", fail)
    search = spec(searcher=searcher, candidates=60, population=20)
    board = play(proposer_for(search, [HUGE], 0, _everything), aim(search))
    assert len(HUGE) > 10**8 and len(board.entries) == 60
    assert all(_inside(entry.candidate, [HUGE]) for entry in board.entries)


@pytest.mark.parametrize("searcher", ["random", "evolutionary"])
def test_a_space_that_is_used_up_ends_the_search(searcher: str) -> None:
    tiny = [ProductSpace("tiny", (1, 2), (64, 128), (2.0, 2.001), None, 64, 12)]  # both ratios round to one width
    search = spec(searcher=searcher, candidates=1000, population=4)
    board = play(proposer_for(search, tiny, 0, _everything), aim(search))
    assert len(board.entries) == 4


@pytest.mark.parametrize("searcher", ["random", "evolutionary"])
def test_where_budgets_are_aimed_at_what_is_drawn_meets_one(searcher: str) -> None:
    budget = Budget(name="small", max_params=student_cost(SHAPE, RANGES[0].largest).params // 8)
    search = spec(searcher=searcher, candidates=40, population=8, aim="budgets")
    proposer = proposer_for(search, RANGES, 0, lambda one: not budget_misses(one, SHAPE, budget))
    board = play(proposer, aim(search, [budget]))
    assert len(board.entries) == 40
    assert all(not budget_misses(entry.candidate, SHAPE, budget) for entry in board.entries)


def _quality_lost(searcher: str, kind: str, seed: int) -> float:
    """Give how much worse the answer to a budget is with 120 of 528 candidates than with all of them."""
    everything = [Candidate("wide", one) for one in RANGES[0]]
    limit = student_cost(SHAPE, random.Random(seed).choice(everything).architecture).params
    budget = Budget(name="b", max_params=int(limit * 1.1))
    search = spec(searcher=searcher, candidates=120, population=12, aim=kind)

    def allowed(candidate: Candidate) -> bool:
        return kind == "frontier" or not budget_misses(candidate, SHAPE, budget)

    board = play(proposer_for(search, RANGES, seed, allowed), aim(search, [budget]))
    assert len(board.entries) <= 120 < 0.25 * len(everything)  # a tight budget allows fewer
    best, ours = (
        choose(
            [Scored(one.subspace, one.architecture, quality(one)) for one in some],
            budget,
            lambda one, length: student_cost(SHAPE, one, length),
        ).chosen
        for some in (everything, [board.entries[number].candidate for number in board.alive])
    )
    assert best is not None and ours is not None
    return ours.heldout_loss / best.heldout_loss - 1


def test_evolution_finds_the_winner_of_a_budget_among_far_more_candidates_than_it_tries() -> None:
    assert [_quality_lost("evolutionary", "budgets", seed) for seed in range(10)] == [0] * 10


def test_evolution_comes_nearer_to_the_whole_frontier_than_a_random_sample() -> None:
    evolved, drawn = (
        statistics.mean(_quality_lost(searcher, "frontier", seed) for seed in range(10))
        for searcher in ("evolutionary", "random")
    )
    assert evolved < 0.8 * drawn
