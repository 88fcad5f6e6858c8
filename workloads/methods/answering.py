"""From scores to students: what every method does once its candidates are scored.

A budget that limits latency is answered by prediction first; the students that it chooses are then measured as they
were exported, and one that fails its budget is replaced by the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from workloads.architecture import Architecture
from workloads.artifacts import Artifact
from workloads.budgets import Budget, LatencyTarget
from workloads.choosing import Choice, Scored, choose, rank
from workloads.latency import LatencyMeasure, Percentile
from workloads.latency_model import LatencyModels
from workloads.methods.stages import AnsweringStages, Polished, Student
from workloads.request import CompressionRequest
from workloads.trained import Trained


@dataclass(frozen=True)
class Answer:
    """What a run found.

    Attributes:
        trained: What the answer stands on.
        choices: The answer to every budget, in their order.
        students: Those of the budgets that can be met.
        latencies: What is known of latency, where a budget limits it.
    """

    trained: Trained
    choices: list[Choice]
    students: list[Student]
    latencies: Latencies

    def held(self, used: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """Of the artefacts that a run came by, by stage, all but the students that it rejected."""
        students = {student.artifact.fingerprint for student in self.students}
        kept = {
            stage: [one for one in fingerprints if stage != "student" or one in students]
            for stage, fingerprints in used.items()
        }
        return {stage: fingerprints for stage, fingerprints in kept.items() if fingerprints}


@dataclass
class Latencies:
    """Latencies of candidates: measured where they were, predicted elsewhere.

    Attributes:
        models: By name of the target, one a percentile.
        measures: By name of the target and shape.
    """

    models: dict[str, LatencyModels] = field(default_factory=dict)
    measures: dict[tuple[str, Architecture], LatencyMeasure] = field(default_factory=dict)

    @property
    def targets(self) -> list[LatencyTarget]:
        """The targets that budgets limit the latency on."""
        return [model.target for model in self.models.values()]

    def of(self, architecture: Architecture, budget: Budget) -> float:
        """Milliseconds on the budget's target, at its percentile."""
        assert budget.latency_target is not None
        name, percentile = budget.latency_target, budget.latency_percentile
        measure = self.measures.get((name, architecture))
        if measure is not None:
            return measure.percentile_ms(percentile)
        return self.models[name].of(percentile).predict(architecture) * self._correction(name, percentile)

    def prediction(self, student: Student) -> dict[str, float] | None:
        """What was predicted of a student before it was measured, and how good such predictions are."""
        budget = student.budget
        if budget.latency_target is None:
            return None
        model = self.models[budget.latency_target].of(budget.latency_percentile)
        given = {"predicted_ms": model.predict(student.scored.architecture)}
        if model.error is not None:
            given |= {"median_error": model.error.median, "p90_error": model.error.p90}
        return given

    def _correction(self, name: str, percentile: Percentile) -> float:
        """How much slower measured students were than predicted: one that fails is not followed by its like."""
        model = self.models[name].of(percentile)
        ratios = [
            measure.percentile_ms(percentile) / model.predict(architecture)
            for (target, architecture), measure in self.measures.items()
            if target == name
        ]
        return max(1.0, max(ratios, default=1.0))


def answer(request: CompressionRequest, stages: AnsweringStages, trained: Trained) -> Answer:
    """Choose, polish where asked, export and measure the students of a request's budgets.

    Raises:
        InputError: A latency target is not there, or the proxy task cannot be read.
    """
    targets = stages.targets()
    latencies = Latencies()
    for name in sorted({budget.latency_target for budget in request.budgets if budget.latency_target is not None}):
        latencies.models[name] = stages.latency_models(trained, targets[name])
    candidates = stages.candidates(trained)
    cost = trained.teacher.cost
    if request.proxy_task is not None:
        first = [choose(candidates, budget, cost, latencies.of) for budget in request.budgets]
        best = _union(choice.ranked[: request.proxy_task.candidates] for choice in first)
        scores = {_key(one): one for one in (stages.task_scores(trained, best) if best else [])}
        candidates = [scores.get(_key(one), one) for one in candidates]
    top = request.polish.top_k if request.polish else 1
    while True:
        choices = [choose(candidates, budget, cost, latencies.of) for budget in request.budgets]
        if _measure_finalists(stages, trained, choices, top, targets, latencies):
            continue  # what was measured may change what is chosen
        finalists = _union(choice.ranked[:top] for choice in choices)
        polished = {_key(one.scored): one for one in (stages.polish(trained, finalists) if request.polish else [])}
        choices = [_after_polish(choice, top, polished) for choice in choices]
        students = _save(stages, trained, choices, polished, targets)
        late = [student for student in students if _is_late(student)]
        if not late:
            return Answer(trained, choices, students, latencies)
        for student in late:
            assert student.latency is not None
            latencies.measures[student.latency.target.name, student.scored.architecture] = student.latency


def _measure_finalists(
    stages: AnsweringStages,
    trained: Trained,
    choices: Sequence[Choice],
    top: int,
    targets: Mapping[str, LatencyTarget],
    latencies: Latencies,
) -> bool:
    """Measure those that are about to be chosen and were only predicted; whether there were any."""
    found = False
    for choice in choices:
        name = choice.budget.latency_target
        if name is None:
            continue
        for scored in choice.ranked[:top]:
            if (name, scored.architecture) not in latencies.measures:
                student = stages.student(trained, scored, trained.superlms[scored.subspace], targets[name])
                latencies.measures[name, scored.architecture] = stages.measure(trained, student, targets[name])
                found = True
    return found


def _after_polish(choice: Choice, top: int, polished: dict[tuple[str, Architecture], Polished]) -> Choice:
    """Rank the finalists by what they have become."""
    if not polished:
        return choice
    finalists = sorted((polished[_key(one)].scored for one in choice.ranked[:top]), key=rank)
    return Choice(choice.budget, (*finalists, *choice.ranked[top:]), choice.nearest)


def _save(
    stages: AnsweringStages,
    trained: Trained,
    choices: Sequence[Choice],
    polished: dict[tuple[str, Architecture], Polished],
    targets: Mapping[str, LatencyTarget],
) -> list[Student]:
    met = [(choice.budget, choice.chosen) for choice in choices if choice.chosen is not None]
    students: list[Student] = []
    stages.students(len(met), 0)
    for budget, chosen in met:
        own = polished.get(_key(chosen))
        superlm: Artifact = own.superlm if own else trained.superlms[chosen.subspace]
        target = None if budget.latency_target is None else targets[budget.latency_target]
        saved = stages.student(trained, chosen, superlm, target)
        measure = None if target is None else stages.measure(trained, saved, target)
        students.append(Student(budget, chosen, saved, measure, polished=own is not None))
        stages.students(len(met), len(students))
    return students


def _is_late(student: Student) -> bool:
    budget, measure = student.budget, student.latency
    if budget.max_latency_ms is None or measure is None:
        return False
    return measure.percentile_ms(budget.latency_percentile) > budget.max_latency_ms


def _union(groups: Iterable[Sequence[Scored]]) -> list[Scored]:
    found: dict[tuple[str, Architecture], Scored] = {}
    for group in groups:
        found |= {_key(one): one for one in group}
    return list(found.values())


def _key(scored: Scored) -> tuple[str, Architecture]:
    return scored.subspace, scored.architecture
