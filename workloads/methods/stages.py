"""The stages that methods compose. Each saves its result, so that nothing is computed twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from workloads.answers.choosing import Scored
from workloads.answers.fidelity import Fidelity
from workloads.answers.latency import LatencyMeasure
from workloads.answers.latency_model import LatencyModels
from workloads.answers.trained import TeacherStage, Trained
from workloads.shapes.search_space import Space
from workloads.spec.budgets import Budget, LatencyTarget
from workloads.storage.artifacts import Artifact


@dataclass(frozen=True)
class Polished:
    """A candidate that was distilled alone after the search.

    Attributes:
        scored: The candidate with its scores after polishing.
        superlm: The SuperLM of this one shape that holds its weights.
    """

    scored: Scored
    superlm: Artifact


@dataclass(frozen=True)
class Student:
    """A saved student.

    Attributes:
        budget: The budget that it answers.
        scored: The candidate with its scores.
        artifact: Artefact with its files.
        latency: Latency measured on the budget's target; None without a target.
        fidelity: Fidelity as exported; None if its teacher has no output to compare.
        polished: Whether it was distilled alone after the search.
    """

    budget: Budget
    scored: Scored
    artifact: Artifact
    latency: LatencyMeasure | None = None
    fidelity: Fidelity | None = None
    polished: bool = False


class TrainingStages(Protocol):
    """The stages up to the scores; each may return the saved result of an earlier run."""

    def teacher(self) -> TeacherStage:
        """Copy the teacher to the storage."""
        ...

    def spaces(self, teacher: TeacherStage) -> list[Space]:
        """Lay out the sub-spaces."""
        ...

    def corpus(self, teacher: TeacherStage) -> Artifact:
        """Make token blocks of the text, some of them held out."""
        ...

    def train(self, teacher: TeacherStage, corpus: Artifact, spaces: Sequence[Space]) -> dict[str, Artifact]:
        """Train one SuperLM for each sub-space; return them by the sub-space's name."""
        ...

    def search(
        self, teacher: TeacherStage, corpus: Artifact, spaces: Sequence[Space], superlms: dict[str, Artifact]
    ) -> Artifact:
        """Score the candidates on held-out text."""
        ...


class AnsweringStages(Protocol):
    """The stages from the scores to the students; each may return the saved result of an earlier run."""

    def candidates(self, trained: Trained) -> list[Scored]:
        """Return the candidates that a student may be chosen from."""
        ...

    def latency_models(self, trained: Trained, target: LatencyTarget) -> LatencyModels:
        """Fit the predictors of the candidates' latency on a target."""
        ...

    def task_scores(self, trained: Trained, candidates: Sequence[Scored]) -> list[Scored]:
        """Fine-tune candidates on the proxy task; return the same candidates with their scores."""
        ...

    def polish(self, trained: Trained, candidates: Sequence[Scored]) -> list[Polished]:
        """Distil candidates alone for longer, and score them anew: on held-out text and on the proxy task, if any."""
        ...

    def save_student(
        self, trained: Trained, scored: Scored, superlm: Artifact, target: LatencyTarget | None = None
    ) -> Artifact:
        """Cut a student out of the SuperLM that holds it, and save it; its card tells the latency on ``target``."""
        ...

    def measure(self, trained: Trained, student: Artifact, target: LatencyTarget) -> LatencyMeasure:
        """Measure a saved student on a target, again where its repeats disagree."""
        ...

    def fidelity(self, student: Artifact) -> Fidelity | None:
        """Return the fidelity of a saved student; None if its teacher has no output to compare."""
        ...

    def report_measured(self, total: int, done: int) -> None:
        """Report the number of students to measure, and of those measured so far."""
        ...

    def report_late(self, budget: Budget, scored: Scored, measure: LatencyMeasure) -> None:
        """Report a candidate that fails its latency budget when measured, so that another takes its place."""
        ...

    def report_unfaithful(self, budget: Budget, scored: Scored, missing: Mapping[str, float]) -> None:
        """Report a candidate that does not reach a floor as exported, so that another takes its place."""
        ...

    def report_saved(self, total: int, done: int) -> None:
        """Report the number of students to save, and of those saved so far."""
        ...

    def targets(self) -> Mapping[str, LatencyTarget]:
        """Return the latency targets that budgets may name."""
        ...
