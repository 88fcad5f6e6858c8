"""Data of a result's picture: the current place of each choice, and the missed limits of unmet budgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from workloads.answers.choosing import Scored, choose
from workloads.answers.latency import LatencyMeasure
from workloads.answers.scores_table import ScoredRow
from workloads.answers.trained import TeacherStage, Trained
from workloads.craft.pictures import Aside, Limit, Panel, Picture
from workloads.methods.answering import Answer
from workloads.methods.latencies import Latencies
from workloads.methods.stages import Student
from workloads.runs import drawing
from workloads.runs.drawing import draw_answer, draw_student
from workloads.shapes.architecture import Architecture, TeacherShape, Vocabulary
from workloads.shapes.costs import student_cost
from workloads.shapes.spaces import relative_spaces
from workloads.spec.budgets import Budget, LatencyTarget
from workloads.storage.artifacts import Artifact

SHAPE = TeacherShape(Architecture.of_teacher(6, 384, 12, 1536), Vocabulary("bert", 30522, 512, 2, 0, True))
(SPACE,) = relative_spaces(SHAPE, 1)
ROWS = [ScoredRow(Scored(SPACE.name, one, 1e7 / student_cost(SHAPE, one).flops), 8, 0, None) for one in SPACE]
CANDIDATES = [row.scored for row in ROWS]
PARAMS = sorted(student_cost(SHAPE, one.architecture).params for one in CANDIDATES)
FLOPS = sorted(student_cost(SHAPE, one.architecture).flops for one in CANDIDATES)
ARTIFACT = Artifact("any", "f", "files", {}, {})


class Fixed(Latencies):
    """A millisecond for every layer; the 95th percentile is twice that."""

    def of(self, architecture: Architecture, budget: Budget) -> float:
        return len(architecture.layers) * (2.0 if budget.latency_percentile == "p95" else 1.0)


def answered(*budgets: dict[str, Any], polish_gain: float | None = None, latencies: Latencies | None = None) -> Answer:
    latencies = latencies or Fixed()
    choices = [
        choose(CANDIDATES, budget, lambda one, length: student_cost(SHAPE, one, length), latencies.of)
        for budget in (Budget.model_validate({"name": f"b{index}"} | one) for index, one in enumerate(budgets))
    ]
    students = []
    for choice in choices:
        if choice.chosen is not None:
            scored = replace(choice.chosen, heldout_loss=choice.chosen.heldout_loss - (polish_gain or 0.0))
            students.append(Student(choice.budget, scored, ARTIFACT, polished=polish_gain is not None))
    trained = Trained(TeacherStage(ARTIFACT, "t", SHAPE), ARTIFACT, (SPACE,), {SPACE.name: ARTIFACT}, ARTIFACT)
    return Answer(trained, choices, students, latencies)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Panel], list[Aside]]:
    panels: list[Panel] = []
    asides: list[Aside] = []

    def keep(given: Sequence[Panel], *, asides: Sequence[Aside] = (), told: list[Aside] = asides) -> Picture:
        panels[:], told[:] = given, asides
        return Picture(b"", b"", "")

    monkeypatch.setattr(drawing, "frontier_picture", keep)
    return panels, asides


Drawn = tuple[list[Panel], list[Aside]]


def test_each_percentile_of_a_target_has_a_panel_with_its_own_latencies_and_limits(drawn: Drawn) -> None:
    least = min(SPACE.layers)
    draw_answer(
        answered(
            {"max_latency_ms": 100, "latency_target": "cpu-1"},
            {"max_latency_ms": 2 * least - 1, "latency_target": "cpu-1", "latency_percentile": "p95"},
        ),
        ROWS,
    )
    _, _, p50, p95 = drawn[0]
    assert (p50.cost[:3], p95.cost[:3]) == ("p50", "p95")
    assert (p50.limits, p95.limits) == ((), (Limit((2 * least - 1) / 1e3, "b1"),))
    assert [2 * point.cost for point in p50.points] == [point.cost for point in p95.points]
    assert min(point.cost for point in p95.points) > p95.limits[0].cost


def test_the_teachers_median_stands_at_the_median_only(drawn: Drawn) -> None:
    found = answered(
        {"max_latency_ms": 100, "latency_target": "cpu-1"},
        {"max_latency_ms": 100, "latency_target": "cpu-1", "latency_percentile": "p95"},
    )
    measure = LatencyMeasure(
        target=LatencyTarget(name="cpu-1"), p50_ms=1, p95_ms=2, spread=0, repeats_p50_ms=[1, 1], agrees=True,
        teacher_p50_ms=50, teacher_repeats_p50_ms=[50, 50], speed_up=50, device="d", versions={}, measured_at="now",
    )  # fmt: skip
    draw_answer(replace(found, students=[replace(one, latency=measure) for one in found.students]), ROWS)
    assert [panel.teacher for panel in drawn[0][2:]] == [0.05, None]


def test_of_several_limits_only_those_that_are_missed_are_drawn(drawn: Drawn) -> None:
    draw_answer(answered({"max_params": PARAMS[-1], "max_flops": FLOPS[0] - 1}), ROWS)
    flops, params = drawn[0]
    assert (flops.limits, params.limits) == ((Limit(FLOPS[0] - 1, "b0"),), ())


def test_a_limit_that_some_meet_is_infeasible_with_the_others_only(drawn: Drawn) -> None:
    class Turned(Latencies):
        """The small are slow."""

        def of(self, architecture: Architecture, budget: Budget) -> float:
            return 1e9 / student_cost(SHAPE, architecture).params

    limits = {"max_params": PARAMS[0], "max_latency_ms": 1e9 / PARAMS[-1], "latency_target": "x"}
    draw_answer(answered(limits, {"max_params": PARAMS[0] - 1}, latencies=Turned()), ROWS)
    both = "b0 with its other limits"
    assert [[limit.label for limit in panel.limits] for panel in drawn[0]] == [[], [both, "b1"], [both]]


def test_limits_without_a_panel_are_told_aside(drawn: Drawn) -> None:
    draw_answer(
        answered(
            {"max_weight_bytes": 7, "weight_dtype": "float16"},
            {"max_activation_bytes": 8, "sequence_length": 64},
            {"max_params_without_embeddings": 9},
            {"max_flops": 10**12, "sequence_length": 64},
            {"max_flops": 11, "sequence_length": 32},
            {"max_params": 12},
        ),
        ROWS,
    )
    assert drawn[1] == [
        Aside("of weights in float16", Limit(7, "b0"), "B"),
        Aside("of activations at 64 tokens", Limit(8, "b1"), "B"),
        Aside("parameters without embeddings", Limit(9, "b2")),
        Aside("FLOPs of 32 tokens", Limit(11, "b4")),
    ]
    assert [panel.limits for panel in drawn[0]] == [(), (Limit(12, "b5"),)]


def test_a_polished_student_stands_at_its_loss_since(drawn: Drawn) -> None:
    found = answered({"max_params": PARAMS[-1]}, {"max_params": PARAMS[-1]}, polish_gain=0.001)
    draw_answer(found, ROWS)
    for panel in drawn[0]:
        assert not any(point.label for point in panel.points[: len(ROWS)])
        (polished,) = panel.points[len(ROWS) :]
        assert polished.label == "b0, b1 (polished)" and polished.polished
        assert polished.loss == found.students[0].scored.heldout_loss < min(one.heldout_loss for one in CANDIDATES)


def test_a_students_own_picture_marks_it_where_it_is_now(drawn: Drawn) -> None:
    one = CANDIDATES[2]
    draw_student(SHAPE, ROWS, one)
    assert [(point.loss, point.label) for point in drawn[0][0].points if point.label] == [
        (one.heldout_loss, "this student")
    ]
    draw_student(SHAPE, ROWS, replace(one, heldout_loss=0.001), polished=True)
    assert [(point.loss, point.label) for point in drawn[0][0].points if point.label] == [
        (0.001, "this student (polished)")
    ]
