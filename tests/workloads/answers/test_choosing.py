from __future__ import annotations

from dataclasses import replace

import pytest

from workloads.answers.choosing import Scored, choose, misses, over_best, rank
from workloads.shapes.architecture import Architecture
from workloads.shapes.costs import Cost
from workloads.spec.budgets import Budget


def scored(params: int, loss: float, flops: int = 10) -> Scored:
    """A candidate whose shape carries its cost: see :func:`cost_of`."""
    architecture = Architecture.alike(
        layers=1, hidden_size=params, heads=1, head_width=1, intermediate_size=flops, teacher_layers=1
    )
    return Scored("tiny", architecture, loss)


def cost_of(architecture: Architecture, sequence_length: int) -> Cost:
    flops = architecture.layers[0].intermediate_size * sequence_length
    return Cost(architecture.hidden_size, 0, flops, sequence_length)


def budget(max_params: int | None = None, max_flops: int | None = None, sequence_length: int = 128) -> Budget:
    return Budget(name="edge", max_params=max_params, max_flops=max_flops, sequence_length=sequence_length)


def test_the_smallest_loss_within_the_budget_is_chosen() -> None:
    candidates = [scored(50, 0.5), scored(90, 0.3), scored(70, 0.4), scored(101, 0.1)]
    choice = choose(candidates, budget(100), cost_of)
    assert choice.chosen == candidates[1] and choice.nearest == ()


def test_a_cost_equal_to_the_limit_meets_it() -> None:
    assert choose([scored(100, 0.3)], budget(100), cost_of).chosen is not None
    assert choose([scored(100, 0.3)], budget(99), cost_of).chosen is None


def test_all_limits_hold_at_once_at_the_budgets_own_length() -> None:
    candidates = [scored(50, 0.1, flops=11), scored(90, 0.2, flops=10), scored(120, 0.05, flops=1)]
    assert choose(candidates, budget(100, 640, 64), cost_of).chosen == candidates[1]
    assert choose(candidates, budget(100, 640, 128), cost_of).chosen is None


def test_the_cheaper_of_two_equal_losses_is_chosen() -> None:
    candidates = [scored(50, 0.1, flops=9), scored(50, 0.1, flops=8)]
    assert choose(candidates, budget(100), cost_of).chosen == candidates[1]


def test_a_budget_that_nothing_meets_is_answered_with_the_nearest() -> None:
    candidates = [scored(300, 0.1), scored(150, 0.4), scored(200, 0.2), scored(250, 0.3)]
    choice = choose(candidates, budget(100), cost_of)
    assert choice.chosen is None
    assert [miss.candidate for miss in choice.nearest] == [candidates[1], candidates[2], candidates[3]]
    assert [miss.misses for miss in choice.nearest] == [{"max_params": 1.5}, {"max_params": 2.0}, {"max_params": 2.5}]


def test_nearness_is_by_the_limit_that_is_missed_most() -> None:
    wide, slow = scored(150, 0.1, flops=1), scored(90, 0.1, flops=20)
    choice = choose([slow, wide], budget(100, 1280), cost_of)
    assert [miss.candidate for miss in choice.nearest] == [wide, slow]
    assert choice.nearest[1].misses == {"max_flops": 2.0}


def test_any_score_on_the_task_goes_before_none_and_the_higher_first() -> None:
    bad, good, none = (replace(scored(50, 0.5), task_score=score) for score in (-0.3, 0.2, None))
    better_loss = replace(none, heldout_loss=0.1)
    assert sorted([none, bad, better_loss, good], key=rank) == [good, bad, better_loss, none]
    assert choose([better_loss, bad], budget(100), cost_of).chosen == bad


def test_only_broken_limits_are_misses() -> None:
    assert misses(Cost(200, 0, 128, 128), budget(100, 128)) == {"max_params": 2.0}
    assert misses(Cost(100, 0, 128, 128), budget(100, 128)) == {}


@pytest.mark.parametrize(
    ("losses", "over"),
    [
        ([0.5, 0.52, 0.5], [0.0, pytest.approx(0.04), 0.0]),
        ([2.0], [0.0]),
        ([], []),
        ([0.0, 0.1, 0.0], [0.0, None, 0.0]),
        ([-1.0, 0.5], [0.0, None]),
        ([5e-324, 1e300], [0.0, None]),
    ],
)
def test_distances_to_the_best_are_ratios_and_left_out_where_there_is_none(losses, over):
    assert over_best(losses) == over
