from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence

import numpy as np
import pytest

from tests.workloads.runs.search.tables import SHAPE, SPACES, losses, random_budget
from workloads.runs.search.rules import (
    ANY_CHANCE,
    Candidate,
    Feasible,
    budget_drops,
    cost_axes,
    feasible_sets,
    frontier_drops,
    standard_error,
)
from workloads.shapes.architecture import Architecture, TeacherShape
from workloads.shapes.costs import student_cost
from workloads.shapes.search_space import ProductSpace
from workloads.shapes.spaces import paper_spaces
from workloads.shapes.teacher_files import named_shape
from workloads.spec.budgets import Budget

CANDIDATES = dict(enumerate(Candidate(space.name, one) for space in SPACES for one in space))
AXES = {number: cost_axes(SHAPE, one.architecture) for number, one in CANDIDATES.items()}


MPNET = named_shape("mpnet-base")
LENGTHS = (1, 2, 5, 16, 64, 128, 256, 512, 4096)
STOCK_AND_FREE = ProductSpace("mixed", (2, 4, 6), (128, 192, 256), (2.0, 3.5), (2, 3, 4), 64, 12)
"""Heads of 64 make some of its shapes stock."""


@pytest.mark.parametrize(
    "shape", [SHAPE, *map(named_shape, ("bert-base", "mpnet-base"))], ids=["small", "bert", "mpnet"]
)
@pytest.mark.parametrize(
    "spaces", [SPACES, paper_spaces(), [STOCK_AND_FREE]], ids=["stock", "free heads", "stock and free heads"]
)
def test_a_candidate_that_costs_no_more_along_the_axes_meets_every_budget_that_the_other_meets(
    shape: TeacherShape, spaces: Sequence[ProductSpace]
) -> None:
    everything = [one for space in spaces for one in space]
    some = everything[:: max(1, len(everything) // 300)]
    axes = np.array([cost_axes(shape, one) for one in some])
    no_more = (axes[:, None] <= axes[None]).all(2)
    assert no_more.sum() > 2 * len(some), "pairs that differ"
    for length in LENGTHS:
        costs = np.array([dataclasses.astuple(student_cost(shape, one, length)) for one in some])
        assert (costs[:, None] <= costs[None]).all(2)[no_more].all(), length


def test_a_relative_bias_is_dearer_at_long_texts_for_more_heads() -> None:
    narrow, wide = (
        Architecture.alike(
            layers=layers, hidden_size=hidden, heads=heads, head_width=64, intermediate_size=inner, teacher_layers=12
        )
        for layers, hidden, heads, inner in ((4, 128, 10, 256), (5, 160, 8, 560))
    )
    mpnet = named_shape("mpnet-base")
    longer = [student_cost(mpnet, one, 128).activation_bytes for one in (narrow, wide)]
    assert longer[0] > longer[1]
    axes = {0: cost_axes(mpnet, narrow), 1: cost_axes(mpnet, wide)}
    assert frontier_drops([0, 1], axes, {0: np.zeros(8), 1: np.ones(8)}) == {}, "the wide one is cheaper there"


def test_a_dearer_candidate_goes_when_the_difference_on_the_same_rows_is_clear() -> None:
    rows = np.random.default_rng(0).normal(5, 2, 16)  # the text's noise, common to all
    clear, unclear = rows + 0.1 + 0.01 * np.sin(np.arange(16)), rows + 0.1 * np.sin(np.arange(16) ** 2) + 0.03
    scored = {0: rows, 1: clear, 2: unclear}
    axes = {0: (1, 1), 1: (1, 2), 2: (2, 1)}
    assert frontier_drops([0, 1, 2], axes, scored) == {1: 0}
    # In the other case the more expensive ones are better and stay.
    assert frontier_drops([0, 1, 2], axes, {number: -one for number, one in scored.items()}) == {}


def test_a_candidate_that_is_cheaper_in_any_way_stays_however_bad_it_is() -> None:
    assert frontier_drops([0, 1], {0: (1, 9), 1: (2, 8)}, {0: np.ones(8), 1: np.full(8, 100.0)}) == {}


def test_of_equals_in_cost_and_loss_none_goes_and_one_row_tells_nothing() -> None:
    same = np.arange(8.0)
    assert frontier_drops([0, 1], {0: (1,), 1: (1,)}, {0: same, 1: same.copy()}) == {}
    assert frontier_drops([0, 1], {0: (1,), 1: (2,)}, {0: np.array([1.0]), 1: np.array([9.0])}) == {}
    assert standard_error(np.array([1.0])) == math.inf


def test_candidates_are_compared_on_the_rows_that_both_have() -> None:
    long = np.concatenate([np.ones(8), np.full(8, 50.0)])
    assert frontier_drops([0, 1], {0: (1,), 1: (2,)}, {0: long, 1: np.full(8, 2.0)}) == {1: 0}


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_whoever_meets_a_budget_leaves_a_survivor_that_meets_it(noise: float) -> None:
    draw = random.Random(2)
    for seed in range(20):
        mix = random.Random(seed)
        bad = {one: mix.random() for one in CANDIDATES.values()}
        lengths = {number: mix.choice([8, 16]) for number in CANDIDATES}
        scored = {n: losses(one, 0, lengths[n], bad.__getitem__, noise) for n, one in CANDIDATES.items()}
        gone = frontier_drops(list(CANDIDATES), AXES, scored)
        assert gone
        for _ in range(100):
            budget = random_budget(draw, SHAPE, list(CANDIDATES.values()))
            (met,) = feasible_sets(CANDIDATES, SHAPE, [budget])
            assert not met.halves or met.members - gone.keys(), budget


def test_the_worse_half_of_each_budget_goes_unless_it_is_in_the_better_half_of_another() -> None:
    wave = [np.sin(np.arange(16) * (number + 1)) for number in range(6)]  # nothing is clear
    scored = {number: 0.01 * number + one - one.mean() for number, one in enumerate(wave)}
    axes = dict.fromkeys(range(6), (1, 1))
    whole, some = Feasible(frozenset(range(5)), True), Feasible(frozenset({3, 4, 5}), True)
    assert budget_drops(range(6), [whole], axes, scored) == {3: None, 4: None, 5: None}
    assert budget_drops(range(6), [whole, some], axes, scored) == {5: None}
    assert budget_drops(range(6), [whole], axes, scored, keep=4) == {4: None, 5: None}
    assert budget_drops([4], [whole], axes, scored) == {}


def test_of_the_better_half_those_go_too_that_are_clearly_worse_than_the_best() -> None:
    scored = {number: np.full(4, float(number)) for number in range(6)}
    axes = dict.fromkeys(range(6), (1, 1))
    whole, some = Feasible(frozenset(range(5)), True), Feasible(frozenset({2, 5}), True)
    assert budget_drops(range(6), [whole], axes, scored) == {1: 0, 2: 0, 3: None, 4: None, 5: None}
    assert budget_drops(range(6), [whole, some], axes, scored) == {1: 0, 3: None, 4: None, 5: None}
    assert budget_drops(range(6), [whole], axes, scored, keep=2) == {2: 0, 3: None, 4: None, 5: None}


def test_a_cost_equal_to_a_limit_meets_the_budget() -> None:
    cost = student_cost(SHAPE, CANDIDATES[3].architecture, 128)
    exact = Budget(name="exact", max_params=cost.params, max_flops=cost.flops)
    less = Budget(name="less", max_params=cost.params - 1, max_flops=cost.flops)
    met, missed = feasible_sets(CANDIDATES, SHAPE, [exact, less])
    assert 3 in met.members and 3 not in missed.members


def test_a_budget_that_none_meets_keeps_those_that_come_nearest() -> None:
    (one,) = feasible_sets(CANDIDATES, SHAPE, [Budget(name="none", max_params=1)])
    by_params = sorted(CANDIDATES, key=lambda n: student_cost(SHAPE, CANDIDATES[n].architecture).params)
    assert one == Feasible(frozenset(by_params[:3]), halves=False)


@pytest.mark.parametrize(
    "more",
    [{"max_latency_ms": 5, "latency_target": "cpu"}, {"min_agreement": 0.9}, {"min_cosine": 0.9, "minimise": "flops"}],
)
def test_a_budget_on_what_only_the_run_measures_halves_nothing(more: dict[str, object]) -> None:
    limits = {"max_params": 10**9} | more
    (whole,) = feasible_sets(CANDIDATES, SHAPE, [Budget.model_validate({"name": "fast"} | limits)])
    assert whole == Feasible(frozenset(CANDIDATES), halves=False)
    # Candidates that are better and cheaper still replace others.
    scored = {number: np.full(4, float(number == 5)) + np.arange(4) for number in (0, 5)}
    assert budget_drops([0, 5], [whole], AXES, scored) == {5: 0}
    assert budget_drops([0, 5], [whole], AXES, {0: scored[5], 5: scored[0]}) == {}


@pytest.mark.parametrize("rows", [2, 4, 8, 16])
def test_however_few_the_rows_equals_stay_and_so_does_a_dearer_candidate_that_is_better(rows: int) -> None:
    draw = np.random.default_rng(rows)
    axes = {number: (number,) for number in range(30)}
    gone = better = 0
    for _ in range(50):
        text = draw.normal(1.0, 0.2, rows)  # common to all
        equal = {number: text * (1 + 0.02 * draw.normal(size=rows)) for number in axes}
        gone += len(frontier_drops(list(axes), axes, equal))
        better += 29 in frontier_drops(list(axes), axes, equal | {29: equal[29] - 0.01})
    assert gone <= 2 * ANY_CHANCE * 50 * 30, "twice what is expected at most"
    assert better <= 1


def test_of_the_better_half_too_only_what_is_clearly_worse_goes_early() -> None:
    draw = np.random.default_rng(0)
    members = range(60)
    gone = 0
    for _ in range(50):
        equal = {number: 1 + 0.02 * draw.normal(size=8) for number in members}
        drops = budget_drops(members, [Feasible(frozenset(members), True)], dict.fromkeys(members, (1,)), equal)
        gone += sum(by is not None for by in drops.values())
    assert gone <= 5
