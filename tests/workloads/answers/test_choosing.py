from __future__ import annotations

from dataclasses import replace

import pytest

from workloads.answers.choosing import Scored, choose, misses, over_best, rank
from workloads.answers.fidelity import shortfalls
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


def faithful(params: int, agreement: float | None, loss: float = 0.1, flops: int = 10) -> Scored:
    return replace(scored(params, loss, flops), fidelity=None if agreement is None else {"agreement": agreement})


def floor(**fields: object) -> Budget:
    return Budget.model_validate({"name": "safe", "min_agreement": 0.97} | fields)


def test_the_cheapest_that_reaches_the_floor_is_chosen_whatever_its_loss() -> None:
    candidates = [
        faithful(90, 0.99, 0.1, flops=1), faithful(60, 0.97, 0.2, flops=3), faithful(40, 0.96, 0.3, flops=2),
        faithful(70, 0.98, 0.1, flops=2),
    ]  # fmt: skip
    assert [one.architecture.hidden_size for one in choose(candidates, floor(minimise="params"), cost_of).ranked] == [
        60, 70, 90,
    ]  # fmt: skip
    assert choose(candidates, floor(minimise="flops"), cost_of).chosen == candidates[0]
    by_loss = choose(candidates, floor(), cost_of)
    assert by_loss.chosen == candidates[0], "of equal losses, the one of fewer FLOPs"
    slow = {90: 5.0, 70: 3.0, 60: 4.0, 40: 1.0}
    fast = choose(
        candidates, floor(minimise="latency", latency_target="cpu-1"), cost_of, lambda one, _: slow[one.hidden_size]
    )
    assert fast.chosen == candidates[3]


def test_limits_and_floors_hold_together_and_the_nearest_is_told_by_what_it_misses() -> None:
    candidates = [faithful(90, 0.99), faithful(60, 0.96), faithful(40, 0.5)]
    assert choose(candidates, floor(max_params=90), cost_of).chosen == candidates[0]
    choice = choose(candidates, floor(max_params=80), cost_of)
    assert choice.chosen is None
    assert [miss.candidate for miss in choice.nearest] == [candidates[1], candidates[0], candidates[2]]
    assert choice.nearest[0].misses == {"min_agreement": pytest.approx(1.01)}
    assert choice.nearest[1].misses == {"max_params": pytest.approx(1.125)}


def test_a_candidate_without_measured_fidelity_meets_no_floor_and_is_no_nearest() -> None:
    unknown = faithful(10, None)
    assert choose([unknown, faithful(90, 0.99)], floor(), cost_of).ranked == (faithful(90, 0.99),)
    assert choose([unknown], floor(), cost_of).nearest == ()
    assert choose([unknown], budget(100), cost_of).chosen == unknown


@pytest.mark.parametrize(
    ("floor_name", "figures"),
    [
        ("min_agreement", {"agreement": 0.8, "kl": 3.0}),
        ("min_cosine", {"cosine": 0.8}),
        ("min_neighbours", {"neighbours_at_10": 0.8}),
        ("min_spearman", {"spearman": 0.8, "kendall": 0.1}),
        ("min_spearman", {"similarity_spearman": 0.8, "cosine": 0.1}),
    ],
)
def test_each_floor_is_of_its_figure(floor_name: str, figures: dict[str, float]) -> None:
    assert shortfalls(figures, {floor_name: 0.8}) == {}
    assert shortfalls(figures, {floor_name: 0.9}) == {floor_name: pytest.approx(1.1)}
    assert shortfalls({}, {floor_name: 0.9}) == {floor_name: pytest.approx(1.9)}
