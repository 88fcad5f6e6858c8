"""Estimates of the steps that follow a search, from calibrations that are given."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.sizing import Resources
from workloads.answers.latency import known_targets
from workloads.answers.latency_model import CANDIDATES
from workloads.answers.trained import TeacherStage
from workloads.craft.calibration import Calibration, TaskCalibration
from workloads.craft.polishing import single_student_space
from workloads.runs.latency.latency import ForwardTimes, Timed
from workloads.runs.plans.estimates import (
    SEARCH_START_SECONDS,
    TRAIN_START_SECONDS,
    Measured,
    each_once,
    finalists,
    halved_epochs,
    make_plan,
)
from workloads.shapes.architecture import Architecture, TeacherShape, Vocabulary
from workloads.shapes.spaces import relative_spaces
from workloads.spec.budgets import LatencyTarget
from workloads.spec.request import CompressionRequest, parse_request
from workloads.storage.artifacts import Artifact, Key

SHAPE = TeacherShape(Architecture.of_teacher(6, 384, 12, 1536), Vocabulary("bert", 30522, 512, 2, 0, True))
SPACES = relative_spaces(SHAPE, 2)
TEACHER = TeacherStage(Artifact("teacher", Key("teacher", {}).fingerprint, "files", {}, {}), "t", SHAPE)
RESOURCES = Resources(cluster_cpus=2, gpus=0)
QUICK = {"name": "quick", "max_latency_ms": 1e6, "latency_target": "cpu-1"}
SMALL = {"name": "small", "max_params": 9_000_000}
TASK = {"train": ["a.csv"], "validation": ["b.csv"], "text_columns": ["sentence"]}


def request(*budgets: dict[str, Any], **more: Any) -> CompressionRequest:
    return parse_request({"teacher": {"model": "m"}, "corpus": {"paths": ["t"]}, "budgets": list(budgets), **more})


def forwards(start: float = 3.0) -> ForwardTimes:
    """A forward takes a nanosecond a FLOP, getting ready 0.5 s."""
    target = known_targets()["cpu-1"]
    flops = sorted(TEACHER.cost(one, 128).flops for space in SPACES for one in (space.smallest, space.largest))
    small, large = flops[0], flops[-1]
    return ForwardTimes(
        target, start, Timed(0.5, 1.0), Timed(0.5, small * 1e-9), Timed(0.5, large * 1e-9), (small, large)
    )


def plan_of(given: CompressionRequest, **measured: Any) -> dict[str, float]:
    spaces = [*SPACES, *measured.get("alone", {}).values()]
    names = [space.name for space in spaces]
    training = Calibration(0.25, dict.fromkeys(names, 2.0), dict.fromkeys(names, 0.125))
    found = make_plan(given, TEACHER, SPACES, RESOURCES, Measured(training, **measured), corpus_bytes=0, reused={})
    trained = [step.seconds for step in found.steps if step.name.startswith("train-")]
    others = sum(step.seconds for step in found.steps if not step.name.startswith("train-"))
    assert found.seconds == pytest.approx(max(trained) + others)
    return {step.name: step.seconds for step in found.steps}


def test_finalists_are_the_largest_within_each_budget() -> None:
    given = request(SMALL, QUICK | {"max_latency_ms": 50.0})
    by_params, by_latency = finalists(given, TEACHER, SPACES, {"cpu-1": forwards()}, 3)
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
    ((_, largest),) = finalists(request(QUICK), TEACHER, SPACES, {"cpu-1": times}, 1)[0]
    own = 0.5 + (target.warm_ups + target.runs) * TEACHER.cost(largest, 128).flops * 1e-9
    assert sampled == pytest.approx(3.0 + 2 * (own + 0.5 + (target.warm_ups + target.runs) * 1.0))

    whole = plan_of(request(QUICK), forwards={"cpu-1": times})["latency"] - sampled
    slowest, quickest = (times.of(flops).seconds(target) for flops in reversed(times.flops))
    assert 2 * CANDIDATES * quickest < whole - 3.0 < 2 * CANDIDATES * slowest

    polished = request(QUICK, polish={"tokens": 100_000, "top_k": 1})
    (best,) = finalists(polished, TEACHER, SPACES, {"cpu-1": times}, 1)
    alones = {space.name: single_student_space(space, one) for space, one in best}
    again = plan_of(polished, forwards={"cpu-1": times}, sampled=frozenset({"cpu-1"}), alone=alones)["latency"]
    assert again == pytest.approx(2 * sampled), "the polished is measured again"


@pytest.mark.parametrize(
    ("epochs", "sum_"), [(1, 9.0), (2, 9 + 5), (3, 9 + 5 + 3), (4, 9 + 5 + 3 + 3), (5, 9 + 5 + 6 + 2)]
)
def test_about_half_of_the_candidates_go_on_at_each_rung(epochs: int, sum_: float) -> None:
    assert halved_epochs(9, epochs) == sum_
    assert halved_epochs(1, epochs) == epochs


def test_the_proxy_task_shares_its_epochs_among_the_cpus() -> None:
    given = request(SMALL, proxy_task=TASK | {"epochs": 3, "candidates": 9})
    tuned = finalists(given, TEACHER, SPACES, {}, 9)[0]
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
    best = finalists(given, TEACHER, SPACES, {}, 2)[0]
    alones = {space.name: single_student_space(space, one) for space, one in reversed(best)}
    shares = [TEACHER.cost(one, 128).flops / TEACHER.cost(alones[space.name].largest, 128).flops for space, one in best]
    expected = TRAIN_START_SECONDS + 100 * (0.25 + 2.0 * sum(shares)) + 8 * (0.25 / 4 + 0.125 * sum(shares))
    assert plan_of(given, alone=alones)["polish"] == pytest.approx(expected)

    both = request(
        SMALL, polish={"tokens": 100 * 4 * 128, "top_k": 2}, training=training, search=search,
        proxy_task=TASK | {"candidates": 2},
    )  # fmt: skip
    task = TaskCalibration(best[0][1], 0.5, 10.0)
    found = plan_of(both, alone=alones, task=task)
    assert found["polish"] == pytest.approx(expected + found["proxy-task"]), "the polished are fine-tuned once more"


def test_where_nothing_meets_a_budget_nothing_is_fine_tuned_or_polished() -> None:
    given = request({"name": "none", "max_params": 1}, polish={"tokens": 10**6}, proxy_task=TASK)
    found = plan_of(given)
    assert (found["proxy-task"], found["polish"]) == (0.0, 0.0)


def test_steps_that_a_request_does_not_have_are_not_in_its_plan() -> None:
    assert set(plan_of(request(SMALL))) == {
        "teacher", "corpus", "search", "students", *(f"train-{space.name}" for space in SPACES),
    }  # fmt: skip
