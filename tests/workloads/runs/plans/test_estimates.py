"""Estimates of the steps after a search, from given calibrations."""

from __future__ import annotations

import time
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest

from cluster.sizing import Cluster, Node
from workloads.answers.latency import known_targets
from workloads.answers.latency_model import CANDIDATES
from workloads.answers.trained import TeacherStage
from workloads.craft.calibration import Calibration, ScoringCalibration, TaskCalibration
from workloads.craft.polishing import single_student_space
from workloads.documents.job_folder import PlanDocument
from workloads.runs.latency.latency import ForwardTimes, Timed
from workloads.runs.plans.estimates import (
    SEARCH_START_SECONDS,
    TRAIN_START_SECONDS,
    Measured,
    Subject,
    halved_epochs,
    make_plan,
)
from workloads.runs.plans.shortlist import Candidate, each_once
from workloads.shapes.architecture import Architecture, TeacherShape, Vocabulary
from workloads.shapes.search_space import ProductSpace, Space
from workloads.shapes.spaces import relative_spaces
from workloads.spec.budgets import LatencyTarget
from workloads.spec.errors import InputError
from workloads.spec.request import CompressionRequest, parse_request
from workloads.storage.artifacts import Artifact, Key

SHAPE = TeacherShape(Architecture.of_teacher(6, 384, 12, 1536), Vocabulary("bert", 30522, 512, 2, 0, True))
SPACES = relative_spaces(SHAPE, 2)
TEACHER = TeacherStage(Artifact("teacher", Key("teacher", {}).fingerprint, "files", {}, {}), "t", SHAPE)
CLUSTER = Cluster((Node("one", {"CPU": 2.0}),))
QUICK = {"name": "quick", "max_latency_ms": 1e6, "latency_target": "cpu-1"}
SMALL = {"name": "small", "max_params": 9_000_000}
TASK = {"train": ["a.csv"], "validation": ["b.csv"], "text_columns": ["sentence"]}


def request(*budgets: dict[str, Any], **more: Any) -> CompressionRequest:
    return parse_request({"teacher": {"model": "m"}, "corpus": {"paths": ["t"]}, "budgets": list(budgets), **more})


def forwards(start: float = 3.0) -> ForwardTimes:
    """Forward times of a nanosecond per FLOP, with a start of 0.5 s."""
    target = known_targets()["cpu-1"]
    flops = sorted(TEACHER.cost(one, 128).flops for space in SPACES for one in (space.smallest, space.largest))
    small, large = flops[0], flops[-1]
    return ForwardTimes(
        target, start, Timed(0.5, 1.0), Timed(0.5, small * 1e-9), Timed(0.5, large * 1e-9), (small, large)
    )


def subject_of(given: CompressionRequest, cluster: Cluster = CLUSTER, spaces: Sequence[Space] = SPACES) -> Subject:
    return Subject(given, TEACHER, spaces, cluster, 0, {})


def finalists(given: CompressionRequest, forwards: dict[str, ForwardTimes], count: int) -> list[list[Candidate]]:
    return subject_of(given).finalists(forwards, count)


def document_of(given: CompressionRequest, cluster: Cluster = CLUSTER, **measured: Any) -> PlanDocument:
    names = [space.name for space in SPACES]
    singles = {space.name: 2.0 for space in measured.get("single", {}).values()}
    training = Calibration(0.25, dict.fromkeys(names, 2.0))
    scoring = ScoringCalibration(0.0625, dict.fromkeys([*names, *singles], 0.125))
    polishing = Calibration(0.25, singles) if singles else None
    return make_plan(subject_of(given, cluster), Measured(training, scoring, polishing, **measured))


def plan_of(given: CompressionRequest, **measured: Any) -> dict[str, float]:
    found = document_of(given, **measured)
    trained = [step.seconds for step in found.steps if step.name.startswith("train-")]
    others = sum(step.seconds for step in found.steps if not step.name.startswith("train-"))
    assert found.seconds == pytest.approx(max(trained) + others)
    return {step.name: step.seconds for step in found.steps}


def test_a_plan_tells_the_kind_of_teacher_and_what_it_gives() -> None:
    found = document_of(request(SMALL)).teacher
    assert found is not None
    assert (found.kind, found.gives) == ("encoder", "hidden states")


def test_finalists_are_the_largest_within_each_budget() -> None:
    given = request(SMALL, QUICK | {"max_latency_ms": 50.0})
    by_params, by_latency = finalists(given, {"cpu-1": forwards()}, 3)
    everything = [TEACHER.cost(one, 128) for space in SPACES for one in space]
    for group, allowed in (
        (by_params, [cost.flops for cost in everything if cost.params <= 9_000_000]),
        (by_latency, [cost.flops for cost in everything if cost.flops <= 50_000_000]),
    ):
        assert [TEACHER.cost(one, 128).flops for _, one in group] == sorted(allowed, reverse=True)[:3]
    assert len(each_once([by_params, by_params])) == 3


def test_latency_is_measured_twice_for_each_candidate_and_beside_the_teacher_for_each_student() -> None:
    times = forwards()
    target: LatencyTarget = times.target
    sampled = plan_of(request(QUICK), forwards={"cpu-1": times}, sampled=frozenset({"cpu-1"}))["latency"]
    ((_, largest),) = finalists(request(QUICK), {"cpu-1": times}, 1)[0]
    own = 0.5 + (target.warm_ups + target.runs) * TEACHER.cost(largest, 128).flops * 1e-9
    assert sampled == pytest.approx(3.0 + 2 * (own + 0.5 + (target.warm_ups + target.runs) * 1.0))

    whole = plan_of(request(QUICK), forwards={"cpu-1": times})["latency"] - sampled
    slowest, quickest = (times.of(flops).seconds(target) for flops in reversed(times.flops))
    assert 2 * CANDIDATES * quickest < whole - 3.0 < 2 * CANDIDATES * slowest

    polished = request(QUICK, polish={"tokens": 100_000, "top_k": 1})
    (best,) = finalists(polished, {"cpu-1": times}, 1)
    singles = {space.name: single_student_space(space, one) for space, one in best}
    again = plan_of(polished, forwards={"cpu-1": times}, sampled=frozenset({"cpu-1"}), single=singles)["latency"]
    assert again == pytest.approx(2 * sampled), "the polished is measured again"


@pytest.mark.parametrize(
    ("epochs", "sum_"), [(1, 9.0), (2, 9 + 5), (3, 9 + 5 + 3), (4, 9 + 5 + 3 + 3), (5, 9 + 5 + 6 + 2)]
)
def test_about_half_of_the_candidates_go_on_at_each_rung(epochs: int, sum_: float) -> None:
    assert halved_epochs(9, epochs) == sum_
    assert halved_epochs(1, epochs) == epochs


def test_the_proxy_task_shares_its_epochs_among_the_cpus() -> None:
    given = request(SMALL, proxy_task=TASK | {"epochs": 3, "candidates": 9})
    tuned = finalists(given, {}, 9)[0]
    flops = [TEACHER.cost(one, 128).flops for _, one in tuned]
    task = TaskCalibration(tuned[0][1], 0.5, 10.0)
    epoch = 10.0 * sum(flops) / len(flops) / flops[0]
    expected = SEARCH_START_SECONDS + (9 * 0.5 + 17 * epoch) / 2
    assert plan_of(given, task=task)["proxy-task"] == pytest.approx(expected)
    one = request(SMALL, proxy_task=TASK | {"epochs": 3, "candidates": 1})
    assert plan_of(one, task=task)["proxy-task"] == pytest.approx(SEARCH_START_SECONDS + 0.5 + 30.0)


def test_polishing_takes_a_step_of_each_student_and_one_of_the_teacher() -> None:
    training = {"batch_size": 4, "sequence_length": 128}
    search = {"heldout_blocks": 8}
    given = request(SMALL, polish={"tokens": 100 * 4 * 128, "top_k": 2}, training=training, search=search)
    best = finalists(given, {}, 2)[0]
    singles = {space.name: single_student_space(space, one) for space, one in reversed(best)}
    shares = [
        TEACHER.cost(one, 128).flops / TEACHER.cost(singles[space.name].largest, 128).flops for space, one in best
    ]
    expected = TRAIN_START_SECONDS + 100 * (0.25 + 2.0 * sum(shares)) + 8 * (0.0625 + 0.125 * sum(shares))
    assert plan_of(given, single=singles)["polish"] == pytest.approx(expected)

    both = request(
        SMALL, polish={"tokens": 100 * 4 * 128, "top_k": 2}, training=training, search=search,
        proxy_task=TASK | {"candidates": 2},
    )  # fmt: skip
    task = TaskCalibration(best[0][1], 0.5, 10.0)
    found = plan_of(both, single=singles, task=task)
    assert found["polish"] == pytest.approx(expected + found["proxy-task"]), "the polished are fine-tuned once more"


def test_where_nothing_meets_a_budget_nothing_is_fine_tuned_or_polished() -> None:
    given = request({"name": "none", "max_params": 1}, polish={"tokens": 10**6}, proxy_task=TASK)
    found = plan_of(given)
    assert (found["proxy-task"], found["polish"]) == (0.0, 0.0)


def test_steps_that_a_request_does_not_have_are_not_in_its_plan() -> None:
    assert set(plan_of(request(SMALL))) == {
        "teacher", "corpus", "search", "students", *(f"train-{space.name}" for space in SPACES),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("nodes", "actors", "needs"),
    [
        ([(2, 0)], 2, "1 CPU"),
        ([(1, 0)] * 3, 3, "1 CPU"),
        ([(8, 0), (32, 1)], 4, "1 CPU, 0.25 GPU"),
        ([(2, 1)], 2, "1 CPU, 0.25 GPU"),
    ],
)
def test_the_search_is_shared_by_the_actors_that_the_nodes_hold(
    nodes: list[tuple[int, int]], actors: int, needs: str
) -> None:
    given = request(SMALL, search={"heldout_blocks": 8})
    found = {step.name: step for step in document_of(given, _cluster(*nodes)).steps}["search"]
    candidates = sum(len(space) for space in SPACES)
    assert found.seconds == pytest.approx(SEARCH_START_SECONDS + 8 * (0.0625 + candidates * 0.125 / actors))
    assert f"{actors} x ({needs})" in (found.basis or "")


def test_trainings_that_do_not_fit_side_by_side_follow_one_another() -> None:
    training = {"batch_size": 7, "sequence_length": 64, "tokens_per_superlm": 7 * 64 * 100, "placement": "apart"}
    given = request(SMALL, training=training)
    one = TRAIN_START_SECONDS + 100 * 2.25
    for nodes, waves in (([(1, 0)], 2), ([(1, 0)] * 2, 1), ([(8, 0), (4, 1)], 2), ([(8, 0), (4, 2)], 1)):
        found = document_of(given, _cluster(*nodes))
        trained = [step.seconds for step in found.steps if step.name.startswith("train-")]
        others = sum(step.seconds for step in found.steps if not step.name.startswith("train-"))
        assert trained == pytest.approx([one, one])
        assert found.seconds == pytest.approx(waves * one + others)


def test_uneven_shares_of_a_batch_are_planned_and_workers_that_do_not_fit_refused() -> None:
    given = request(SMALL, training={"batch_size": 8, "sequence_length": 64, "workers": 2})
    given = given.model_copy(update={"training": given.training.model_copy(update={"batch_size": 7})})
    found = {step.name: step for step in document_of(given, _cluster((1, 0), (1, 0))).steps}
    assert "2 x (1 CPU)" in (found[f"train-{SPACES[0].name}"].basis or "")
    with pytest.raises(InputError) as refused:
        document_of(given, _cluster((1, 0)))
    assert refused.value.errors[0].field == "training.workers"


def test_hours_on_a_gpu_count_what_holds_one() -> None:
    given = request(SMALL, training={"batch_size": 8, "sequence_length": 64, "tokens_per_superlm": 8 * 64 * 100})
    found = document_of(given, _cluster((8, 1)))
    assert found.device == "GPU"
    searched = next(step.seconds for step in found.steps if step.name == "search")  # by four actors of a quarter each
    assert found.device_hours * 3600 == pytest.approx(TRAIN_START_SECONDS + 100 * 4.25 + searched)


def test_a_plan_of_large_spaces_is_quick() -> None:
    widths, heads = tuple(range(32, 384, 32)), tuple(range(1, 13))
    ratios = tuple(Fraction(number, 12) for number in range(6, 48))
    large = [ProductSpace(name, tuple(range(1, 7)), widths, ratios, heads, 32, 6) for name in ("one", "two")]
    assert min(map(len, large)) > 30_000
    given = request(SMALL, {"name": "half", "max_flops": 300_000_000}, subspaces={"count": 2})
    subject = subject_of(given, CLUSTER, large)
    began = time.process_time()
    best = each_once(subject.finalists({}, 3))
    names = ["one", "two"]
    training = Calibration(0.25, dict.fromkeys(names, 2.0))
    found = make_plan(subject, Measured(training, ScoringCalibration(0.1, dict.fromkeys(names, 0.1))))
    assert time.process_time() - began < 0.5  # about 0.1 s on an idle machine
    assert all(0 < count < len(large[0]) for budget in found.budgets for count in budget.candidates.values())
    assert best and found.seconds > 0


def _cluster(*nodes: tuple[int, int]) -> Cluster:
    return Cluster(tuple(Node(f"node-{i}", {"CPU": cpus, "GPU": gpus}) for i, (cpus, gpus) in enumerate(nodes)))
