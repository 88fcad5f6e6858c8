"""Stages from the scores table to the students, run on the cluster and saved in the storage."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from typing_extensions import override

from workloads.answers.choosing import Scored
from workloads.answers.fidelity import Fidelity
from workloads.answers.latency import LatencyMeasure, known_targets
from workloads.answers.latency_model import LatencyModels
from workloads.answers.scores_table import choosable, read_scores
from workloads.answers.student_key import student_key
from workloads.answers.trained import Trained
from workloads.craft.fidelity.probe import Probe
from workloads.methods.fidelity import fidelity_rows
from workloads.methods.stages import AnsweringStages, Polished
from workloads.methods.steps import LATENCY, POLISH, PROXY_TASK, STUDENTS
from workloads.runs.attempt.attempt import Attempt
from workloads.runs.attempt.run import News
from workloads.runs.latency.latency import (
    Choice,
    SavedStudent,
    build_measure,
    build_samples,
    read_measure,
    read_samples,
)
from workloads.runs.latency.places import Asked, find_place
from workloads.runs.probing import read_probe
from workloads.runs.students import Origin, build_student
from workloads.spec.budgets import Budget, LatencyTarget
from workloads.storage.artifacts import Artifact


class StoredAnswering(AnsweringStages):
    """Stages that are saved in the storage; if several jobs need one, one of them builds it."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._storage, self._request, self._builder = attempt.storage, attempt.request, attempt.builder
        self._progress, self._cache = attempt.progress, attempt.cache
        self._saved: list[Artifact] = []
        self._sampled = 0  # measurements that the predictors took
        self._measured = False  # whether a student was measured by this attempt
        self._read_probe: Probe | None = None

    @override
    def candidates(self, trained: Trained) -> list[Scored]:
        return choosable(trained, read_scores(self._storage, trained.scores))

    @override
    def targets(self) -> dict[str, LatencyTarget]:
        return known_targets(self._request.latency_targets)

    @override
    def latency_models(self, trained: Trained, target: LatencyTarget) -> LatencyModels:
        """Fit the predictors of a target.

        Raises:
            InputError: No node can measure the target.
        """
        self._progress.start(LATENCY, unit="measurements")
        before = self._sampled

        def progress(done: int, total: int) -> None:
            self._sampled = before + total
            self._progress.advance(LATENCY, before + done, self._sampled)

        choice = Choice(trained.spaces, self._request.seed)
        samples = build_samples(self._attempt.run, self._asked(target), trained.teacher, choice, progress)
        self._cache.record(LATENCY, samples)
        return LatencyModels.fit(read_samples(samples))

    @override
    def measure(self, trained: Trained, student: Artifact, target: LatencyTarget) -> LatencyMeasure:
        return self._measure(trained, SavedStudent(student.files, student.fingerprint), target)

    @override
    def fidelity(self, student: Artifact) -> Fidelity | None:
        found = student.summary.get("fidelity")
        return None if found is None else Fidelity.model_validate(found)

    @override
    def report_unfaithful(self, budget: Budget, scored: Scored, missing: Mapping[str, float]) -> None:
        words = ", ".join(f"{more - 1:.3g} below its {name}" for name, more in missing.items())
        self._progress.event(
            "unfaithful",
            f"{scored.architecture.describe()} as exported is {words} of the budget {budget.name}; the next best "
            "candidate replaces it.",
            budget=budget.name,
            architecture=scored.architecture.to_json(),
            missing={name: more - 1 for name, more in missing.items()},
        )

    @override
    def report_measured(self, total: int, done: int) -> None:
        # The step also counts the measurements of the predictors.
        self._progress.advance(LATENCY, self._sampled + done, self._sampled + total)
        if done == total:
            self._progress.finish(LATENCY, reused=not self._measured)

    @override
    def report_late(self, budget: Budget, scored: Scored, measure: LatencyMeasure) -> None:
        took, limit = measure.percentile_ms(budget.latency_percentile), budget.max_latency_ms
        self._progress.event(
            "late",
            f"{scored.architecture.describe()} was measured at {took:.3g} ms on {budget.latency_target}, over the "
            f"{limit:g} ms of the budget {budget.name}; the next best candidate replaces it.",
            budget=budget.name,
            architecture=scored.architecture.to_json(),
            latency_ms=took,
            max_latency_ms=limit,
            agrees=measure.agrees,
        )

    @override
    def task_scores(self, trained: Trained, candidates: Sequence[Scored]) -> list[Scored]:
        """Fine-tune candidates on the proxy task.

        Raises:
            InputError: The task's files cannot be used.
        """
        self._progress.start(PROXY_TASK, len(candidates), "candidates")
        superlms = [trained.weights(one) for one in candidates]
        news = News.of_step(self._progress, PROXY_TASK)
        found, artifact = self._score_on_task(trained, candidates, superlms, news)
        self._cache.record(PROXY_TASK, artifact)
        return found

    @override
    def polish(self, trained: Trained, candidates: Sequence[Scored]) -> list[Polished]:
        """Distil candidates alone for longer, and score them anew.

        Raises:
            InputError: ``polish.tokens`` is less than one step takes, the training diverged, or the proxy task's
                files cannot be used.
        """
        # Ray Train takes a second to import; most selections polish nothing.
        from workloads.runs.training.polish import PolishJob, polish_students, score_polished
        from workloads.runs.training.train import TrainingInputs

        assert self._request.polish is not None
        tokens = self._request.polish.tokens
        self._progress.start(POLISH, tokens * len(candidates), "tokens")
        jobs = [PolishJob(trained.space(one.subspace), one.architecture, trained.weights(one)) for one in candidates]
        inputs = TrainingInputs(self._request, trained.teacher, trained.corpus)
        polished = polish_students(self._attempt.run, inputs, jobs)
        losses = score_polished(self._attempt.run, inputs, polished)
        after = [replace(one, heldout_loss=losses[job.id]) for one, job in zip(candidates, jobs, strict=True)]
        superlms = [polished[job.id] for job in jobs]
        made = list(superlms)
        if self._request.proxy_task is not None:  # polishing has changed the weights, so score them again

            def tell(done: int, total: int | None) -> None:
                self._progress.note(POLISH, f"on the proxy task once more: {done} of {total}")

            news = News(tell, functools.partial(self._progress.wait, POLISH))
            after, scores = self._score_on_task(trained, after, superlms, news)
            made.append(scores)
        self._cache.record(POLISH, *made)
        return [Polished(*one) for one in zip(after, superlms, strict=True)]

    @override
    def report_saved(self, total: int, done: int) -> None:
        if done == 0:
            self._progress.start(STUDENTS, total, "students")
        else:
            self._progress.advance(STUDENTS, done)
        if done == total:
            self._cache.record(STUDENTS, *self._saved)

    @override
    def save_student(
        self, trained: Trained, scored: Scored, superlm: Artifact, target: LatencyTarget | None = None
    ) -> Artifact:
        stages = {"teacher": trained.teacher.artifact, "corpus": trained.corpus, "superlm": superlm}
        # A card names one target and device, so a student that is measured on another is a separate artefact.
        latency = (target, find_place(self._asked(target)).device) if target else None
        key = student_key(
            trained.scores,
            superlm,
            scored.architecture,
            self._request.export,
            latency,
            fidelity_rows(self._request, trained.teacher.shape),
        )

        def measure(files: str) -> LatencyMeasure:
            assert target is not None
            return self._measure(trained, SavedStudent(files, key.fingerprint), target)

        def build() -> Artifact:
            teacher, opened = self._attempt.teacher(trained.teacher), self._attempt.superlm(trained.teacher, superlm)
            rows = read_scores(self._storage, trained.scores)
            origin = Origin(self._request, teacher, opened, stages, rows, self._probe(trained))
            work = self._attempt.work / "students" / key.fingerprint
            measured = measure if target else None
            return build_student(self._attempt.run, origin, scored, key, work, measured)

        artifact = self._cache.get_or_build(STUDENTS, key, build)
        self._saved.append(artifact)
        return artifact

    def _probe(self, trained: Trained) -> Probe | None:
        """Return the rows to compare students with their teacher on; they are read once."""
        rows = fidelity_rows(self._request, trained.teacher.shape)
        if rows is not None and self._read_probe is None:
            teacher, batch = self._attempt.teacher(trained.teacher), self._request.training.batch_size
            self._read_probe = read_probe(self._storage, teacher, trained.corpus, rows, batch)
        return self._read_probe

    def _asked(self, target: LatencyTarget) -> Asked:
        return Asked.by(self._request, target, functools.partial(self._progress.wait, LATENCY))

    def _measure(self, trained: Trained, student: SavedStudent, target: LatencyTarget) -> LatencyMeasure:
        artifact = build_measure(self._attempt.run, self._asked(target), trained.teacher, student)
        self._measured |= artifact.builder == self._builder
        return read_measure(artifact)

    def _score_on_task(
        self, trained: Trained, candidates: Sequence[Scored], superlms: Sequence[Artifact], news: News
    ) -> tuple[list[Scored], Artifact]:
        from workloads.runs.proxy import Entrants, read_task_scores, score_on_task  # Ray Tune, as Ray Train above

        entrants = Entrants(candidates, superlms)
        artifact = score_on_task(self._attempt.run, self._request, trained.teacher, entrants, news)
        return read_task_scores(self._storage, artifact, candidates), artifact
