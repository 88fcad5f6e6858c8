"""Answers to budgets, from scores to students, over stages in memory with formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from workloads.answers.choosing import Scored
from workloads.answers.fidelity import Fidelity
from workloads.answers.latency import LatencyMeasure, LatencySample, LatencySamples, known_targets
from workloads.answers.latency_model import LatencyModels
from workloads.answers.trained import TeacherStage, Trained
from workloads.documents.answers import infeasible_documents
from workloads.methods.answering import answer
from workloads.methods.latencies import Latencies
from workloads.methods.stages import Polished
from workloads.shapes.architecture import Architecture, TeacherShape, Vocabulary
from workloads.shapes.costs import student_cost
from workloads.shapes.search_space import ProductSpace
from workloads.shapes.spaces import relative_spaces
from workloads.spec.budgets import Budget, LatencyTarget
from workloads.spec.request import CompressionRequest, parse_request
from workloads.storage.artifacts import Artifact, Key

SHAPE = TeacherShape(Architecture.of_teacher(6, 384, 12, 1536), Vocabulary("bert", 30522, 512, 2, 0, True))
SPACES = relative_spaces(SHAPE, 2)


def artifact(stage: str, **inputs: Any) -> Artifact:
    key = Key(stage, inputs)
    return Artifact(stage, key.fingerprint, f"{key.folder}/files", {}, inputs)


def milliseconds(architecture: Architecture) -> float:
    return student_cost(SHAPE, architecture).flops / 1e7


def request(*budgets: dict[str, Any], **more: Any) -> CompressionRequest:
    return parse_request({"teacher": {"model": "m"}, "corpus": {"paths": ["t"]}, "budgets": list(budgets), **more})


class Formulas:
    """Stages: the loss falls with FLOPs, latency grows with them, and ``slow`` shapes take ``factor`` times that."""

    def __init__(self, slow: Sequence[Architecture] = (), factor: float = 1.5, polish_gain: float = 0.0) -> None:
        self.slow, self.factor, self.polish_gain = set(slow), factor, polish_gain
        self.measured: list[Architecture] = []
        self.polished: list[Scored] = []
        self.told: list[tuple[int, int]] = []
        self.told_measured: list[tuple[int, int]] = []
        self.late_ones: list[tuple[str, Architecture, float]] = []
        self.predicted_times, self.agreeing = 1.0, True
        self.best_task: Architecture | None = None
        self.agreement_of: Callable[[Architecture], float] | None = None
        self.worse_as_exported: dict[Architecture, float] = {}
        self.unfaithful_ones: list[tuple[str, Architecture, dict[str, float]]] = []

    def trained(self) -> Trained:
        teacher = TeacherStage(artifact("teacher"), "t", SHAPE)
        superlms = {space.name: artifact("superlm", name=space.name) for space in SPACES}
        return Trained(teacher, artifact("corpus"), tuple(SPACES), superlms, artifact("scores"))

    def candidates(self, trained: Trained) -> list[Scored]:
        found = [Scored(space.name, one, 1e7 / student_cost(SHAPE, one).flops) for space in SPACES for one in space]
        if self.agreement_of is None:
            return found
        return [replace(one, fidelity={"agreement": self.agreement_of(one.architecture)}) for one in found]

    def targets(self) -> Mapping[str, LatencyTarget]:
        return known_targets()

    def latency_models(self, trained: Trained, target: LatencyTarget) -> LatencyModels:
        shapes = [one for space in SPACES for one in list(space)[::5]]
        samples = [
            LatencySample(architecture=one.to_json(), p50_ms=took, p95_ms=took, agrees=True)
            for one in shapes
            for took in [milliseconds(one) * self.predicted_times]
        ]
        return LatencyModels.fit(
            LatencySamples(target=target, samples=samples, device="d", versions={}, measured_at="now")
        )

    def task_scores(self, trained: Trained, candidates: Sequence[Scored]) -> list[Scored]:
        self.best_task = candidates[-1].architecture
        return [replace(one, task_score=float(index)) for index, one in enumerate(candidates)]

    def polish(self, trained: Trained, candidates: Sequence[Scored]) -> list[Polished]:
        self.polished = list(candidates)
        # The last one gains most, so that polishing reverses the order.
        return [
            Polished(
                replace(one, heldout_loss=one.heldout_loss - self.polish_gain * index),
                artifact("polished", shape=one.architecture.to_json()),
            )
            for index, one in enumerate(candidates)
        ]

    def save_student(
        self, trained: Trained, scored: Scored, superlm: Artifact, target: LatencyTarget | None = None
    ) -> Artifact:
        told = None if target is None else target.name
        return artifact("student", shape=scored.architecture.to_json(), superlm=superlm.fingerprint, told=told)

    def measure(self, trained: Trained, student: Artifact, target: LatencyTarget) -> LatencyMeasure:
        one = Architecture.from_json(student.inputs["shape"])
        self.measured.append(one)
        took = milliseconds(one) * (self.factor if one in self.slow else 1.0)
        return LatencyMeasure(
            target=target, p50_ms=took, p95_ms=took, spread=0.0, repeats_p50_ms=[took, took], agrees=self.agreeing,
            teacher_p50_ms=100.0, teacher_repeats_p50_ms=[100.0, 100.0], speed_up=100.0 / took, device="d",
            versions={}, measured_at="now",
        )  # fmt: skip

    def fidelity(self, student: Artifact) -> Fidelity | None:
        one = Architecture.from_json(student.inputs["shape"])
        if self.agreement_of is None:
            return None
        return Fidelity(rows=10, agreement=self.worse_as_exported.get(one, self.agreement_of(one)))

    def report_unfaithful(self, budget: Budget, scored: Scored, missing: Mapping[str, float]) -> None:
        self.unfaithful_ones.append((budget.name, scored.architecture, dict(missing)))

    def report_measured(self, total: int, done: int) -> None:
        self.told_measured.append((total, done))

    def report_late(self, budget: Budget, scored: Scored, measure: LatencyMeasure) -> None:
        self.late_ones.append((budget.name, scored.architecture, measure.p50_ms))

    def report_saved(self, total: int, done: int) -> None:
        self.told.append((total, done))

    def teacher(self) -> TeacherStage:
        raise NotImplementedError

    def spaces(self, teacher: TeacherStage) -> list[ProductSpace]:
        raise NotImplementedError

    def corpus(self, teacher: TeacherStage) -> Artifact:
        raise NotImplementedError

    def train(self, teacher: TeacherStage, corpus: Artifact, spaces: Sequence[ProductSpace]) -> dict[str, Artifact]:
        raise NotImplementedError

    def search(
        self, teacher: TeacherStage, corpus: Artifact, spaces: Sequence[ProductSpace], superlms: dict[str, Artifact]
    ) -> Artifact:
        raise NotImplementedError


QUICK = {"name": "quick", "max_latency_ms": 20.0, "latency_target": "cpu-1"}


def by_loss(stages: Formulas) -> list[Scored]:
    within = [one for one in stages.candidates(stages.trained()) if milliseconds(one.architecture) <= 20.0]
    return sorted(within, key=lambda one: one.heldout_loss)


def test_the_chosen_student_of_a_latency_budget_is_measured() -> None:
    stages = Formulas()
    found = answer(request(QUICK), stages, stages.trained())
    (student,) = found.students
    assert student.scored == by_loss(stages)[0]
    assert student.latency is not None and student.latency.p50_ms <= 20.0
    assert set(stages.measured) == {student.scored.architecture}
    assert student.artifact.inputs["told"] == "cpu-1"


def test_a_student_that_fails_its_latency_budget_is_replaced() -> None:
    best = by_loss(Formulas())[0]
    stages = Formulas(slow=[best.architecture])
    (student,) = answer(request(QUICK), stages, stages.trained()).students
    assert best.architecture in stages.measured
    assert student.scored.architecture != best.architecture
    assert student.latency is not None and student.latency.p50_ms <= 20.0


def test_a_latency_that_nothing_meets_is_infeasible_by_what_was_measured_or_predicted() -> None:
    stages = Formulas()
    found = answer(request(QUICK | {"max_latency_ms": 0.01}), stages, stages.trained())
    assert found.students == [] and found.choices[0].chosen is None
    assert found.choices[0].nearest[0].misses["max_latency_ms"] > 1


def test_every_shape_slower_than_predicted_ends_infeasible_rather_than_late() -> None:
    everything = [one.architecture for one in Formulas().candidates(Formulas().trained())]
    stages = Formulas(slow=everything, factor=1e4)
    found = answer(request(QUICK), stages, stages.trained())
    assert found.students == []
    assert len(stages.measured) < 5, "what was measured says that the rest is slow too"


@pytest.mark.parametrize("factor", [1.05, 1.5, 3.0, 10.0])
@pytest.mark.parametrize("slow", [1, 2])
def test_one_or_two_slow_shapes_rule_out_no_others(slow: int, factor: float) -> None:
    best = by_loss(Formulas())
    stages = Formulas(slow=[one.architecture for one in best[:slow]], factor=factor)
    fitting = [one for one in best if milliseconds(one.architecture) * (factor if one in best[:slow] else 1) <= 20.0]
    (student,) = answer(request(QUICK), stages, stages.trained()).students
    assert student.scored == fitting[0]
    assert len(stages.measured) <= slow + 2


def test_where_all_are_slower_than_predicted_few_are_measured_in_vain() -> None:
    everything = Formulas().candidates(Formulas().trained())
    stages = Formulas(slow=[one.architecture for one in everything], factor=1.5)
    (student,) = answer(request(QUICK), stages, stages.trained()).students
    assert student.latency is not None and student.latency.p50_ms <= 20.0
    assert len(stages.measured) <= 6
    best = min(one.heldout_loss for one in everything if 1.5 * milliseconds(one.architecture) <= 20.0)
    assert student.scored.heldout_loss <= 1.02 * best


def test_a_measure_that_disagrees_corrects_nothing_beside_one_that_agrees() -> None:
    stages = Formulas()
    trained = stages.trained()
    budget = request(QUICK).budgets[0]
    latencies = Latencies({"cpu-1": stages.latency_models(trained, stages.targets()["cpu-1"])})
    one, *others = by_loss(stages)
    before = latencies.of(one.architecture, budget)

    def took(scored: Scored, *, times: float, agrees: bool) -> None:
        stages.slow, stages.factor, stages.agreeing = {scored.architecture}, times, agrees
        student = stages.save_student(trained, scored, trained.superlms[scored.subspace])
        measure = stages.measure(trained, student, stages.targets()["cpu-1"])
        latencies.measures["cpu-1", scored.architecture] = measure

    for other in others[:4]:
        took(other, times=5.0, agrees=False)
    assert latencies.of(one.architecture, budget) == pytest.approx(5 * before, rel=0.01)
    for other in others[4:8]:
        took(other, times=2.0, agrees=True)
    assert latencies.of(one.architecture, budget) == pytest.approx(2 * before, rel=0.01)


@pytest.mark.parametrize(("limit", "measured"), [(1.1, True), (0.8, False)])
def test_before_a_budget_is_infeasible_what_may_meet_it_is_measured(limit: float, measured: bool) -> None:
    stages = Formulas()
    stages.predicted_times = 1.15
    fastest = min(milliseconds(one.architecture) for one in stages.candidates(stages.trained()))
    found = answer(request(QUICK | {"max_latency_ms": limit * fastest}), stages, stages.trained())
    assert bool(stages.measured) == bool(found.students) == measured
    for student in found.students:
        assert student.latency is not None and student.latency.p50_ms <= limit * fastest


def test_no_more_than_a_few_are_measured_for_a_budget_that_none_meets() -> None:
    everything = [one.architecture for one in Formulas().candidates(Formulas().trained())]
    stages = Formulas(slow=everything, factor=1.15)
    fastest = min(map(milliseconds, everything))
    found = answer(request(QUICK | {"max_latency_ms": 0.95 * fastest}), stages, stages.trained())
    assert found.students == []
    assert 1 <= len(stages.measured) <= 3
    nearest = infeasible_documents(found.choices, found.trained.teacher.cost, found.latencies.measure)[0].nearest
    assert {one.latency_source for one in nearest} == {"measured", "predicted"}
    for one in nearest:
        assert one.latency_ms == pytest.approx(one.misses["max_latency_ms"] * 0.95 * fastest)
        known = found.latencies.measure(Architecture.from_json(one.architecture), found.choices[0].budget)
        assert (one.latency_source, one.latency_agrees) == (
            ("predicted", None) if known is None else ("measured", True)
        )
        assert known is None or one.latency_ms == known.p50_ms


def test_it_is_said_how_many_are_measured_and_which_was_too_slow() -> None:
    best = by_loss(Formulas())[0]
    stages = Formulas(slow=[best.architecture])
    answer(request(QUICK), stages, stages.trained())
    assert stages.told_measured == [(1, 0), (1, 1), (2, 1), (2, 2)]
    assert stages.late_ones == [("quick", best.architecture, pytest.approx(1.5 * milliseconds(best.architecture)))]
    assert len(stages.measured) == 2, "what was accepted is not measured once more"


def test_a_polished_student_is_measured_and_counted_too() -> None:
    stages = Formulas()
    answer(request(QUICK, polish={"tokens": 10_000}), stages, stages.trained())
    assert stages.told_measured[-1] == (2, 2) and stages.late_ones == []


def test_polish_the_top_k_then_choose() -> None:
    stages = Formulas(polish_gain=1.0)
    budget = {"name": "b", "max_flops": 200_000_000}
    found = answer(request(budget, polish={"tokens": 10_000, "top_k": 3}), stages, stages.trained())
    (student,) = found.students
    assert len(stages.polished) == 3
    assert student.polished and student.scored.architecture == stages.polished[-1].architecture
    assert (
        student.artifact.inputs["superlm"]
        == artifact("polished", shape=student.scored.architecture.to_json()).fingerprint
    )


def test_students_of_several_budgets_are_polished_together_and_each_once() -> None:
    stages = Formulas()
    budgets = [{"name": name, "max_flops": 200_000_000} for name in ("a", "b")]
    found = answer(request(*budgets, polish={"tokens": 10_000}), stages, stages.trained())
    assert len(stages.polished) == 1 and len(found.students) == 2
    assert stages.told[-1] == (2, 2)


def test_a_proxy_task_ranks_the_best_candidates_by_its_score() -> None:
    stages = Formulas()
    task = {"train": ["a.parquet"], "validation": ["b.parquet"], "text_columns": ["sentence"], "candidates": 4}
    found = answer(request({"name": "b", "max_flops": 200_000_000}, proxy_task=task), stages, stages.trained())
    (student,) = found.students
    assert student.scored.task_score == 3.0
    assert student.scored.architecture == stages.best_task


def test_with_a_proxy_task_the_polished_are_ranked_by_what_they_score_on_it_then() -> None:
    class Turning(Formulas):
        def polish(self, trained: Trained, candidates: Sequence[Scored]) -> list[Polished]:
            given = super().polish(trained, candidates)
            return [
                replace(one, scored=replace(one.scored, task_score=-(one.scored.task_score or 0.0))) for one in given
            ]

    stages = Turning()
    task = {"train": ["a.parquet"], "validation": ["b.parquet"], "text_columns": ["sentence"], "candidates": 4}
    polish = {"tokens": 10_000, "top_k": 3}
    budget = {"name": "b", "max_flops": 200_000_000}
    found = answer(request(budget, proxy_task=task, polish=polish), stages, stages.trained())
    (student,) = found.students
    assert [one.task_score for one in stages.polished] == [3.0, 2.0, 1.0]
    assert (student.scored.architecture, student.scored.task_score) == (stages.polished[-1].architecture, -1.0)


@pytest.mark.parametrize("limit", [1, 10**15])
def test_budgets_at_the_ends_are_answered(limit: int) -> None:
    stages = Formulas()
    found = answer(request({"name": "b", "max_params": limit}), stages, stages.trained())
    assert bool(found.students) == (limit > 1)


def agreement(architecture: Architecture) -> float:
    """Grows with the FLOPs, from .8 to 1."""
    return 1 - 0.2 * min(1.0, 2e7 / student_cost(SHAPE, architecture).flops)


def faithful_stages(**more: Any) -> Formulas:
    stages = Formulas(**more)
    stages.agreement_of = agreement
    return stages


def fastest(stages: Formulas, least: float) -> list[Scored]:
    found = stages.candidates(stages.trained())
    within = [one for one in found if agreement(one.architecture) >= least]
    return sorted(within, key=lambda one: student_cost(SHAPE, one.architecture).flops)


SAFE = {"name": "safe", "min_agreement": 0.97, "minimise": "flops"}


def test_the_cheapest_student_that_agrees_often_enough_is_chosen_and_its_fidelity_told() -> None:
    stages = faithful_stages()
    (student,) = answer(request(SAFE), stages, stages.trained()).students
    assert (
        student_cost(SHAPE, student.scored.architecture).flops
        == student_cost(SHAPE, fastest(stages, 0.97)[0].architecture).flops
    )
    assert student.fidelity is not None and student.fidelity.agreement is not None
    assert student.fidelity.agreement >= 0.97 and stages.unfaithful_ones == []


def test_a_student_that_fails_its_floor_as_exported_is_replaced_by_the_next() -> None:
    stages = faithful_stages()
    first = answer(request(SAFE), stages, stages.trained()).students[0].scored
    stages.worse_as_exported = {first.architecture: 0.96}
    budgets = [
        SAFE,
        {"name": "other", "min_agreement": 0.95, "minimise": "flops"},
        {"name": "any", "max_params": 10**9},
    ]
    found = answer(request(*budgets), stages, stages.trained())
    assert [name for name, *_ in stages.unfaithful_ones] == ["safe"]
    assert stages.unfaithful_ones[0][1:] == (first.architecture, {"min_agreement": pytest.approx(1.01)})
    student = found.students[0]
    assert student.scored.architecture != first.architecture
    assert student.fidelity is not None and student.fidelity.figures["agreement"] >= 0.97
    assert len(found.students) == 3


def test_a_floor_that_none_reaches_as_exported_is_infeasible_with_the_figures_as_exported() -> None:
    stages = faithful_stages()
    reach = [one.architecture for one in fastest(stages, 0.97)]
    stages.worse_as_exported = dict.fromkeys(reach, 0.9)
    found = answer(request(SAFE), stages, stages.trained())
    assert found.students == []
    (document,) = infeasible_documents(found.choices, found.trained.teacher.cost)
    nearest = document.nearest[0]
    assert nearest.misses == {"min_agreement": pytest.approx(1.97 - nearest.fidelity["agreement"])}  # type: ignore[index]
    assert nearest.fidelity is not None and 0.9 <= nearest.fidelity["agreement"] < 0.97


def test_the_fastest_student_above_a_floor_is_measured_before_it_is_chosen() -> None:
    quickest = fastest(faithful_stages(), 0.97)
    stages = faithful_stages(slow=[one.architecture for one in quickest[:2]], factor=3.0)
    fast = {"name": "fast", "min_agreement": 0.97, "minimise": "latency", "latency_target": "cpu-1"}
    found = answer(request(fast), stages, stages.trained())
    (student,) = found.students
    assert student.latency is not None
    took = {one: milliseconds(one) * (3.0 if one in stages.slow else 1.0) for one in stages.measured}
    assert student.latency.p50_ms == min(took.values())
    assert agreement(student.scored.architecture) >= 0.97
    assert student.scored.architecture not in stages.slow


def test_polishing_keeps_the_order_of_a_minimised_cost() -> None:
    stages = faithful_stages(polish_gain=1.0)
    polish = {"tokens": 10**6, "top_k": 3}
    (student,) = answer(request(SAFE, polish=polish), stages, stages.trained()).students
    flops = [student_cost(SHAPE, one.architecture).flops for one in stages.polished]
    assert student_cost(SHAPE, student.scored.architecture).flops == min(flops)
    assert len(stages.polished) == 3
