from __future__ import annotations

import itertools
import random

from workloads.answers.frontier import pareto_front, times_dominated

Pair = tuple[float, float]


def front(pairs: list[Pair]) -> list[Pair]:
    return pareto_front(pairs, lambda pair: pair)


def by_definition(pairs: list[Pair]) -> list[Pair]:
    def beats(a: Pair, b: Pair) -> bool:
        return a[0] <= b[0] and a[1] <= b[1] and a != b

    return sorted(pair for pair in pairs if not any(beats(other, pair) for other in pairs))


def test_a_candidate_goes_when_another_is_no_worse_in_both_and_better_in_one() -> None:
    assert front([(1, 5), (2, 4), (3, 4), (2, 6), (4, 1)]) == [(1, 5), (2, 4), (4, 1)]


def test_of_equal_cost_the_best_stays_and_of_equal_loss_the_cheapest() -> None:
    assert front([(1, 5), (1, 3), (1, 4)]) == [(1, 3)]
    assert front([(3, 2), (1, 2), (2, 2)]) == [(1, 2)]


def test_candidates_alike_in_both_all_stay_in_their_order() -> None:
    named = [("b", 1, 2), ("worse", 1, 3), ("a", 1, 2)]
    assert [name for name, *_ in pareto_front(named, lambda one: one[1:])] == ["b", "a"]


def test_it_is_the_front_by_definition_on_every_small_case_and_on_large_random_ones() -> None:
    grid: list[Pair] = [(float(a), float(b)) for a in range(3) for b in range(3)]
    for count in range(4):
        for pairs in itertools.product(grid, repeat=count):
            assert front(list(pairs)) == by_definition(list(pairs))
    draw = random.Random(0)
    for _ in range(20):
        pairs_ = [(float(draw.randrange(30)), draw.random()) for _ in range(200)]
        assert front(pairs_) == by_definition(pairs_)


def test_the_order_of_candidates_does_not_matter_and_infinite_losses_are_taken() -> None:
    inf = float("inf")
    assert front([(2, inf), (1, inf)]) == [(1, inf)]
    pairs: list[Pair] = [(2, 1), (1, 2), (3, 0), (2, 3)]
    assert all(front(list(order)) == [(1, 2), (2, 1), (3, 0)] for order in itertools.permutations(pairs))


def test_how_often_each_is_beaten_tells_the_front_and_those_behind_it() -> None:
    pairs: list[Pair] = [(1, 5), (2, 4), (3, 4), (2, 6), (4, 1), (1, 5)]
    assert times_dominated(pairs) == [0, 0, 1, 3, 0, 0]
    assert [pair for pair, by in zip(pairs, times_dominated(pairs), strict=True) if by == 0] == [
        (1, 5),
        (2, 4),
        (4, 1),
        (1, 5),
    ]
    assert times_dominated([]) == []
