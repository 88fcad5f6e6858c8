"""The scheduler on an imitation of Tune: nothing is scored twice, actors start once and are never idle beside work."""

from __future__ import annotations

import math
import random

import pytest

from cluster.sizing import Cluster, Node
from tests.workloads.runs.search.fake_tune import FakeTune, Score
from tests.workloads.runs.search.tables import ROWS, SHAPE, SPACES, aim, losses, play, random_budget, spec
from workloads.craft.scoring import Losses
from workloads.runs.search import scheduler
from workloads.runs.search.board import Aim, Board, Work
from workloads.runs.search.proposals import Exhaustive, proposer_for
from workloads.runs.search.rules import Candidate
from workloads.runs.search.trial import ACTORS_OF_GPU, Actors, actors_for, device_of_actor
from workloads.spec.errors import InputError

ALL = [Candidate(space.name, one) for space in SPACES for one in space]


def _scorer(scored: list[tuple[Candidate, int]]) -> Score:
    def score(work: Work) -> dict[int, Losses]:
        scored.extend((one, work.start) for _, one in work.candidates)
        return {number: losses(one, work.start, work.stop, noise=0.3) for number, one in work.candidates}

    return score


def _board(what: Aim, actors: int) -> Board:
    return Board(what, rows=ROWS, actors=actors, on_progress=lambda: None)


def _ends(board: Board) -> list[tuple[object, ...]]:
    return [(e.candidate, e.rung, e.dropped, e.dropped_for, e.losses.tolist()) for e in board.entries]


@pytest.mark.parametrize("actors", [1, 2, 5, 40])
@pytest.mark.parametrize("kind", ["frontier", "budgets", "all"])
def test_a_search_on_tune_ends_as_a_plain_loop_over_the_same_lots(kind: str, actors: int) -> None:
    what = aim(spec(aim=kind), [random_budget(random.Random(4), SHAPE, ALL)])
    expected = _ends(play(Exhaustive(SPACES), what, noise=0.3))
    for seed in range(3):
        board, scored = _board(what, actors), []
        tune = FakeTune(board, Exhaustive(SPACES), actors=actors, order=random.Random(seed))
        tune.run(lambda scored=scored: _scorer(scored))
        assert _ends(board) == expected
        assert len(scored) == len(set(scored)), "nothing twice"
        assert len(tune.actors) == min(actors, len(tune.trials)), "each started once"
        assert tune.scheduler.cpu_seconds > 0


def test_generations_are_searched_by_the_same_actors() -> None:
    search = spec(searcher="evolutionary", candidates=40, population=8)
    board, scored = _board(aim(search), 2), []
    tune = FakeTune(board, proposer_for(search, SPACES, 3, lambda one: True), actors=2)
    tune.run(lambda: _scorer(scored))
    assert len(board.entries) == 40 and len(scored) == len(set(scored))
    assert len(tune.actors) == 2


def test_the_first_actor_goes_on_while_the_second_still_starts() -> None:
    board, scored = _board(aim(spec()), 2), []
    tune = FakeTune(board, Exhaustive(SPACES), actors=2, starts_in=[0, 5])
    tune.run(lambda: _scorer(scored))
    assert _ends(board) == _ends(play(Exhaustive(SPACES), aim(spec()), noise=0.3))
    assert len(tune.actors) == 2 and tune.trials[2].config["lot"] == 2


def test_a_lot_whose_own_actor_never_starts_is_taken_over_when_nothing_else_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scheduler, "START_SECONDS", 0.0)
    board, scored = _board(aim(spec()), 2), []
    tune = FakeTune(board, Exhaustive(SPACES), actors=2, starts_in=[0, math.inf])
    tune.run(lambda: _scorer(scored))
    assert _ends(board) == _ends(play(Exhaustive(SPACES), aim(spec()), noise=0.3))
    assert len(scored) == len(set(scored))


@pytest.mark.parametrize(
    ("nodes", "count", "gpu"),
    [
        ([{"CPU": 2}, {"CPU": 3}], 5, 0),
        ([{"CPU": 8, "GPU": 1}], ACTORS_OF_GPU, 1 / ACTORS_OF_GPU),
        ([{"CPU": 2, "GPU": 4}, {"CPU": 64}], 2, 1 / ACTORS_OF_GPU),
        ([{"GPU": 1}, {"CPU": 2}], 2, 0),
    ],
)
def test_actors_share_gpus_where_there_are_any_beside_a_cpu(
    nodes: list[dict[str, float]], count: int, gpu: float
) -> None:
    needs = {"CPU": 1.0} | ({"GPU": gpu} if gpu else {})
    found = actors_for(Cluster(tuple(Node(str(at), node) for at, node in enumerate(nodes))))
    assert found == Actors(count, needs) and found.device == ("cuda" if gpu else "cpu")


def test_a_cluster_without_a_cpu_is_refused() -> None:
    with pytest.raises(InputError, match=r"search: .*CPU"):
        actors_for(Cluster((Node("a", {"GPU": 1.0}),)))


def test_an_actor_scores_on_the_gpu_that_ray_lends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for lent, device in (([], "cpu"), ([0], "cuda")):
        monkeypatch.setattr("ray.get_gpu_ids", lambda lent=lent: lent)
        assert device_of_actor().type == device
