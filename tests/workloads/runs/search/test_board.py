from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from tests.workloads.runs.search.tables import ROWS, SHAPE, SPACES, aim, losses, play, quality, random_budget, spec
from workloads.answers.choosing import Scored, choose
from workloads.runs.search.board import LARGEST_LOT, LOTS_AN_ACTOR, Board
from workloads.runs.search.proposals import Exhaustive
from workloads.runs.search.rules import OVER_BUDGET, Candidate
from workloads.shapes.costs import student_cost
from workloads.spec.budgets import Budget

ALL = [Candidate(space.name, one) for space in SPACES for one in space]


def _scored(candidates: list[Candidate]) -> list[Scored]:
    return [Scored(one.subspace, one.architecture, quality(one)) for one in candidates]


def _survivors(board: Board) -> list[Candidate]:
    return [board.entries[number].candidate for number in board.alive]


def test_with_the_aim_frontier_no_budget_is_ever_lost() -> None:
    board = play(Exhaustive(SPACES), aim(spec()))
    survivors = _survivors(board)
    assert len(survivors) < 0.7 * len(ALL)
    draw = random.Random(0)
    answered = 0
    for _ in range(2000):
        budget = random_budget(draw, SHAPE, ALL)
        best, ours = (
            choose(_scored(some), budget, lambda one, length: student_cost(SHAPE, one, length))
            for some in (ALL, survivors)
        )
        assert ours.chosen == best.chosen, budget
        answered += best.chosen is not None
    assert answered > 1000


@pytest.mark.parametrize("seed", range(5))
def test_with_the_aim_budgets_each_has_its_winner_and_far_less_is_scored(seed: int) -> None:
    draw = random.Random(seed)
    budgets = [random_budget(draw, SHAPE, ALL) for _ in range(3)]
    board = play(Exhaustive(SPACES), aim(spec(aim="budgets"), budgets))
    for budget in budgets:
        best, ours = (
            choose(_scored(some), budget, lambda one, length: student_cost(SHAPE, one, length))
            for some in (ALL, _survivors(board))
        )
        assert (ours.chosen, ours.nearest) == (best.chosen, best.nearest)
    assert sum(len(entry.losses) for entry in board.entries) < 0.4 * len(ALL) * ROWS


def test_what_is_over_every_budget_is_never_scored_and_what_meets_one_exactly_is() -> None:
    cost = student_cost(SHAPE, ALL[0].architecture)
    scored: list[tuple[Candidate, int]] = []
    board = play(
        Exhaustive(SPACES), aim(spec(aim="budgets"), [Budget(name="b", max_params=cost.params)]), scored=scored
    )
    within = {one for one in ALL if student_cost(SHAPE, one.architecture).params <= cost.params}
    assert {one for one, _ in scored} == within and ALL[0] in within
    for entry in board.entries:
        assert (entry.dropped == OVER_BUDGET and entry.rung == -1) == (entry.candidate not in within)


def test_with_the_aim_all_everything_is_scored_on_all_rows_at_once() -> None:
    scored: list[tuple[Candidate, int]] = []
    board = play(Exhaustive(SPACES), aim(spec(aim="all")), scored=scored)
    assert len(scored) == len(ALL) and set(scored) == {(one, 0) for one in ALL}
    assert len(board.alive) == len(ALL) and board.done == len(ALL)


@pytest.mark.parametrize("kind", ["frontier", "budgets"])
def test_a_search_ends_alike_whatever_the_number_of_actors_and_the_order_of_their_results(kind: str) -> None:
    budgets = [random_budget(random.Random(4), SHAPE, ALL)]
    what = aim(spec(aim=kind), budgets)
    ends = []
    for seed, actors in enumerate([1, 2, 7, 40]):
        board = play(Exhaustive(SPACES), what, noise=0.3, actors=actors, order=random.Random(seed))
        ends.append([(e.candidate, e.rung, e.dropped, e.dropped_for, e.losses.tolist()) for e in board.entries])
    assert all(end == ends[0] for end in ends)


def test_each_rung_scores_its_new_rows_only_and_what_is_known_not_again() -> None:
    first: list[tuple[Candidate, int]] = []
    board = play(Exhaustive(SPACES), aim(spec()), noise=0.3, scored=first)
    assert len(first) == len(set(first)), "nothing twice"
    assert sorted({start for _, start in first}) == [0, 4, 8, 16]
    for entry in board.entries:
        assert len(entry.losses) == (4, 8, 16, 32)[entry.rung]

    half = first[: len(first) // 2]
    ends = {0: 4, 4: 8, 8: 16, 16: 32}
    known = {(one, start): losses(one, start, ends[start], noise=0.3) for one, start in half}
    second: list[tuple[Candidate, int]] = []
    again = play(Exhaustive(SPACES), aim(spec()), noise=0.3, known=known, scored=second)
    assert sorted(map(first.index, second)) == list(range(len(half), len(first)))
    assert [(e.dropped, e.losses.tolist()) for e in again.entries] == [
        (e.dropped, e.losses.tolist()) for e in board.entries
    ]


@pytest.mark.parametrize("actors", [1, 2, 50])
def test_lots_hold_one_sub_space_each_and_about_the_same_work_the_dearest_first(actors: int) -> None:
    board = Board(aim(spec()), rows=ROWS, actors=actors, on_progress=lambda: None)
    lots = [board.lots[lot] for lot in board.begin(ALL)]
    assert sorted(number for lot in lots for number in lot) == list(range(len(ALL)))
    entries = [[board.entries[number] for number in lot] for lot in lots]
    assert all(1 <= len(lot) <= LARGEST_LOT for lot in lots)
    assert all(len({entry.candidate.subspace for entry in lot}) == 1 for lot in entries)
    spaces = [lot[0].candidate.subspace for lot in entries]
    assert len(lots) == 1 or sum(one != other for one, other in itertools.pairwise(spaces)) == 1, "one after the other"
    even = sum(entry.work for entry in board.entries) / (LOTS_AN_ACTOR * actors)
    for lot in entries:
        assert len(lot) == 1 or sum(entry.work for entry in lot) <= even
    dearest = [max(entry.work for entry in lot) for lot in entries]
    assert dearest == sorted(dearest, reverse=True)
    assert len(lots) >= min(len(ALL), actors)


def test_survivors_are_dealt_into_the_lots_that_there_are() -> None:
    board = Board(aim(spec()), rows=ROWS, actors=2, on_progress=lambda: None)
    first = set(board.begin(ALL))
    while board.waiting:
        lot = min(board.waiting)
        work = board.work(lot)
        board.report(lot, {number: losses(one, work.start, work.stop) for number, one in work.candidates})
        assert set(board.lots) <= first
        assert {number for members in board.lots.values() for number in members} <= set(range(len(ALL)))
    assert board.rung == len(board.rungs) - 1


def test_rungs_end_with_the_rows_that_there_are() -> None:
    board = Board(aim(spec()), rows=10, actors=1, on_progress=lambda: None)
    assert board.rungs == (4, 8, 10)
    board = Board(aim(spec()), rows=23, actors=1, on_progress=lambda: None, group=5)
    assert board.rungs == (5, 10, 20), "whole groups"


def test_a_loss_that_is_no_number_ends_the_search() -> None:
    board = Board(aim(spec()), rows=ROWS, actors=1, on_progress=lambda: None)
    lot, *_ = board.begin(ALL)
    work = board.work(lot)
    board.report(lot, {number: np.full(4, np.nan) for number, _ in work.candidates})
    assert board.ended and board.diverged == work.candidates[0][1]
