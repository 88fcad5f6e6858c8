"""From scores to students: the part that all methods share once candidates are scored.

A budget that limits latency is answered by predictions first. The chosen students are then measured as exported, and
one that fails its budget is replaced by the next. Measurements also correct the predictions. A few more candidates are
measured where the correction, or the predictor's error, may have ruled out better ones.

A floor of fidelity is answered by the figures of the scores table. The chosen students are measured as exported, and
one that fails its floor is replaced by the next.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from workloads.answers.choosing import Choice, CostOf, Scored, choose, preference, rank
from workloads.answers.fidelity import shortfalls
from workloads.answers.latency import LatencyMeasure
from workloads.answers.trained import Trained
from workloads.methods.latencies import LOOKS, Latencies, is_late
from workloads.methods.stages import AnsweringStages, Polished, Student
from workloads.shapes.architecture import Architecture
from workloads.spec.budgets import Budget, LatencyTarget
from workloads.spec.request import CompressionRequest
from workloads.storage.artifacts import Artifact

_Wanted = tuple[Scored, Budget]


@dataclass(frozen=True)
class Answer:
    """The answer of a run to its budgets.

    Attributes:
        trained: The teacher, the corpus, the SuperLMs and the scores behind it.
        choices: The answer to every budget, in their order.
        students: The students of the budgets that can be met.
        latencies: Measured and predicted latencies on the targets of budgets.
    """

    trained: Trained
    choices: list[Choice]
    students: list[Student]
    latencies: Latencies


def answer(request: CompressionRequest, stages: AnsweringStages, trained: Trained) -> Answer:
    """Choose, polish if asked, export and measure the students of a request's budgets.

    Raises:
        InputError: No node can measure a latency target, or the proxy task cannot be read.
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
    meter = _Meter(stages, trained, targets, latencies)
    looks: dict[str, int] = {}
    while True:
        choices = [choose(candidates, budget, cost, latencies.of) for budget in request.budgets]
        if meter.measure_finalists(choices, top):
            continue  # the measurements may change the choices
        closer = _closer_looks(choices, candidates, cost, latencies, looks)
        if closer:
            meter.measure(closer)
            continue
        finalists = _union(choice.ranked[:top] for choice in choices)
        polished = {_key(one.scored): one for one in (stages.polish(trained, finalists) if request.polish else [])}
        choices = [_after_polish(choice, top, polished) for choice in choices]
        students = meter.save(choices, polished)
        late = [one for one in students if one.latency is not None and is_late(one.budget, one.latency)]
        unfaithful = [one for one in students if _missing(one)]
        if not late and not unfaithful:
            return Answer(trained, choices, students, latencies)
        for student in late:
            assert student.latency is not None
            latencies.measures[student.latency.target.name, student.scored.architecture] = student.latency
            stages.report_late(student.budget, student.scored, student.latency)
        for student in unfaithful:
            stages.report_unfaithful(student.budget, student.scored, _missing(student))
        as_exported = {_key(one.scored): one.fidelity.figures for one in unfaithful if one.fidelity is not None}
        candidates = [
            replace(one, fidelity=as_exported[_key(one)]) if _key(one) in as_exported else one for one in candidates
        ]


def _missing(student: Student) -> dict[str, float]:
    """Return the floors that a student as exported does not reach."""
    floors = student.budget.floors
    if not floors:
        return {}
    assert student.fidelity is not None, student
    return shortfalls(student.fidelity.figures, floors)


def _closer_looks(
    choices: Sequence[Choice],
    candidates: Sequence[Scored],
    cost_of: CostOf,
    latencies: Latencies,
    looks: dict[str, int],
) -> list[_Wanted]:
    """Choose for each budget a candidate that is predicted to miss it, but may meet it when measured.

    If the budget has a student, it is a better candidate that would fit with the smallest ratio of measured to
    predicted latency. If nothing fits, it is the fastest candidate within the predictor's error of the limit.

    Args:
        choices: The present answers.
        candidates: All candidates that may be chosen.
        cost_of: Returns a candidate's cost.
        latencies: Measured and predicted latencies.
        looks: Number of candidates measured in this way, by budget; updated here.
    """
    wanted = []
    for choice in choices:
        budget = choice.budget
        if budget.latency_target is None or looks.get(budget.name, 0) >= LOOKS:
            continue
        slack = 1.0 if choice.ranked else 1 + latencies.error(budget)
        lenient = choose(candidates, budget, cost_of, functools.partial(latencies.at_best, slack=slack))
        unmeasured = [one for one in lenient.ranked if latencies.measure(one.architecture, budget) is None]
        if choice.chosen is not None:
            preferred = preference(budget, cost_of, latencies.at_best)
            best = preference(budget, cost_of, latencies.of)(choice.chosen)
            unmeasured = [one for one in unmeasured if preferred(one) < best]
        else:
            unmeasured.sort(key=lambda one: latencies.at_best(one.architecture, budget))
        if unmeasured:
            looks[budget.name] = looks.get(budget.name, 0) + 1
            wanted.append((unmeasured[0], budget))
    return wanted


class _Meter:
    """Saves and measures students, each once, and reports progress."""

    def __init__(
        self, stages: AnsweringStages, trained: Trained, targets: Mapping[str, LatencyTarget], latencies: Latencies
    ) -> None:
        self._stages, self._trained = stages, trained
        self._targets, self._latencies = targets, latencies
        self._measures: dict[tuple[str, str, Architecture], LatencyMeasure] = {}
        self._total = 0

    def measure_finalists(self, choices: Sequence[Choice], top: int) -> bool:
        """Measure the best candidates whose latency is only predicted so far; return whether there were any."""
        wanted = [
            (scored, choice.budget)
            for choice in choices
            for scored in choice.ranked[:top]
            if choice.budget.latency_target is not None
            and self._latencies.measure(scored.architecture, choice.budget) is None
        ]
        self.measure(wanted)
        for scored, budget in wanted:
            measure = self._latencies.measures[str(budget.latency_target), scored.architecture]
            if is_late(budget, measure):
                self._stages.report_late(budget, scored, measure)
        return bool(wanted)

    def measure(self, wanted: Sequence[_Wanted]) -> None:
        """Save and measure candidates in the weights of their SuperLM, before any polishing."""
        ready = [
            (scored, self._trained.weights(scored), self._targets[str(budget.latency_target)])
            for scored, budget in wanted
        ]
        self._announce(ready)
        for scored, superlm, target in ready:
            measure = self._measure(scored, superlm, target)[1]
            self._latencies.measures[target.name, scored.architecture] = measure

    def save(self, choices: Sequence[Choice], polished: Mapping[tuple[str, Architecture], Polished]) -> list[Student]:
        """Save the chosen students, and measure those not measured yet."""
        met = [(choice.budget, choice.chosen) for choice in choices if choice.chosen is not None]
        students: list[Student] = []
        self._stages.report_saved(len(met), 0)
        for budget, chosen in met:
            own = polished.get(_key(chosen))
            superlm: Artifact = own.superlm if own else self._trained.weights(chosen)
            if budget.latency_target is None:
                saved, measure = self._stages.save_student(self._trained, chosen, superlm), None
            else:
                ready = (chosen, superlm, self._targets[budget.latency_target])
                self._announce([ready])
                saved, measure = self._measure(*ready)
            fidelity = self._stages.fidelity(saved)
            students.append(Student(budget, chosen, saved, measure, fidelity, polished=own is not None))
            self._stages.report_saved(len(met), len(students))
        return students

    def _announce(self, ready: Sequence[tuple[Scored, Artifact, LatencyTarget]]) -> None:
        new = {self._name(*one) for one in ready} - set(self._measures)
        if new:
            self._total = len(self._measures) + len(new)
            self._stages.report_measured(self._total, len(self._measures))

    def _measure(self, scored: Scored, superlm: Artifact, target: LatencyTarget) -> tuple[Artifact, LatencyMeasure]:
        """Save a student; return it with its first measure, which accepts or rejects it and is reported."""
        student = self._stages.save_student(self._trained, scored, superlm, target)
        name = self._name(scored, superlm, target)
        if name not in self._measures:
            self._measures[name] = self._stages.measure(self._trained, student, target)
            self._stages.report_measured(self._total, len(self._measures))
        return student, self._measures[name]

    @staticmethod
    def _name(scored: Scored, superlm: Artifact, target: LatencyTarget) -> tuple[str, str, Architecture]:
        return target.name, superlm.fingerprint, scored.architecture


def _after_polish(choice: Choice, top: int, polished: dict[tuple[str, Architecture], Polished]) -> Choice:
    """Rank the finalists by their scores after polishing; a cost that is minimised has not changed."""
    if not polished:
        return choice
    finalists = [polished[_key(one)].scored for one in choice.ranked[:top]]
    if choice.budget.minimise is None:
        finalists.sort(key=rank)
    return Choice(choice.budget, (*finalists, *choice.ranked[top:]), choice.nearest)


def _union(groups: Iterable[Sequence[Scored]]) -> list[Scored]:
    found: dict[tuple[str, Architecture], Scored] = {}
    for group in groups:
        found |= {_key(one): one for one in group}
    return list(found.values())


def _key(scored: Scored) -> tuple[str, Architecture]:
    return scored.subspace, scored.architecture
