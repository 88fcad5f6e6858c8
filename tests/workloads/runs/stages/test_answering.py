"""The stages between scores and students: their calls of the Ray programs, and their use of the results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from workloads.answers.choosing import Scored
from workloads.answers.latency import LatencyMeasure, LatencySample, LatencySamples
from workloads.answers.student_key import student_key
from workloads.answers.trained import TeacherStage, Trained
from workloads.documents.job_folder import JobFolder, StepDocument
from workloads.methods.steps import step_names
from workloads.runs import proxy
from workloads.runs.attempt.attempt import Attempt
from workloads.runs.attempt.progress import Progress
from workloads.runs.attempt.run import JobAttempt, News, Run
from workloads.runs.attempt.stage_cache import StageCache
from workloads.runs.attempt.stage_log import StageLog
from workloads.runs.latency.latency import Choice, SavedStudent
from workloads.runs.latency.places import Asked
from workloads.runs.proxy import Entrants
from workloads.runs.stages import answering as answering_stages
from workloads.runs.stages.answering import StoredAnswering
from workloads.runs.training import polish
from workloads.runs.training.polish import PolishJob
from workloads.runs.training.train import TrainingInputs
from workloads.shapes import teacher_files
from workloads.shapes.spaces import relative_spaces
from workloads.spec.request import CompressionRequest, parse_request
from workloads.storage.artifacts import Artifact, Key, commit, find
from workloads.storage.storage import Storage

TASK = {"train": ["a.csv"], "validation": ["b.csv"], "text_columns": ["sentence"]}


class Scene:
    """A trained search of nothing but manifests."""

    def __init__(self, folder: Path, make_teacher: Callable[..., Path], **request: Any) -> None:
        self.storage = Storage.open(str(folder / "storage"))
        shape = teacher_files.shape_of(make_teacher(folder / "teacher"))
        spaces = tuple(relative_spaces(shape, 2))
        self.request = parse_request(
            {
                "teacher": {"model": "teacher"}, "corpus": {"paths": ["t"]},
                "budgets": [{"name": "any", "max_params": 10**9}],
                **request,
            }
        )  # fmt: skip
        superlms = {space.name: self.make("superlm", space.name) for space in spaces}
        teacher = TeacherStage(self.make("teacher"), "t", shape)
        self.trained = Trained(teacher, self.make("corpus"), spaces, superlms, self.make("scores"))
        self.candidates = [Scored(space.name, space.largest, 0.5, 0.9) for space in spaces]
        self.progress = Progress(JobFolder(self.storage, "cmp_a"), 1)
        self.progress.declare(step_names(self.request))
        self.log = StageLog(self.storage, "cmp_a")
        attempt = JobAttempt(JobFolder(self.storage, "cmp_a"), 1, self.progress, self.log)
        self.stages = StoredAnswering(Attempt(attempt, self.request, folder))

    def make(self, stage: str, name: str = "") -> Artifact:
        return commit(self.storage, Key(stage, {"test": name}), "cmp_a-1", {})


@pytest.mark.parametrize("task", [TASK, None])
def test_the_polished_are_scored_on_the_proxy_task_by_their_own_weights(
    task: dict[str, Any] | None, make_teacher: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, make_teacher, polish={"tokens": 10**6}, proxy_task=task)
    fine_tuned: list[tuple[Scored, str]] = []

    def polish_students(_: Run, __: TrainingInputs, chosen: Sequence[PolishJob]) -> dict[Any, Artifact]:
        return {job.id: scene.make("polished", job.subspace.name) for job in chosen}

    def score_on_task(_: Run, __: CompressionRequest, ___: TeacherStage, entrants: Entrants, ____: News) -> Artifact:
        pairs = zip(entrants.candidates, entrants.superlms, strict=True)
        fine_tuned.extend((one, superlm.fingerprint) for one, superlm in pairs)
        return scene.make("task-scores")

    def read_task_scores(_: Storage, __: Artifact, candidates: Sequence[Scored]) -> list[Scored]:
        return [replace(one, task_score=0.1 * number) for number, one in enumerate(candidates)]

    monkeypatch.setattr(polish, "polish_students", polish_students)
    monkeypatch.setattr(polish, "score_polished", lambda run, inputs, polished: dict.fromkeys(polished, 0.25))
    for stand_in in (score_on_task, read_task_scores):
        monkeypatch.setattr(proxy, stand_in.__name__, stand_in)
    polished = scene.stages.polish(scene.trained, scene.candidates)

    assert [one.scored.heldout_loss for one in polished] == [0.25, 0.25]
    own = [one.superlm.fingerprint for one in polished]
    assert own == scene.log.fingerprints()["polished"]
    if task is None:
        assert not fine_tuned and [one.scored.task_score for one in polished] == [0.9, 0.9]
    else:
        assert [superlm for _, superlm in fine_tuned] == own
        assert [one.scored.task_score for one in polished] == [0.0, 0.1]
        assert len(scene.log.fingerprints()["task-scores"]) == 1


class Measured(Scene):
    """A scene whose measurements are those that it is told of, by the builder that it is told of."""

    def __init__(self, folder: Path, make_teacher: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
        budget = {"name": "quick", "max_latency_ms": 20.0, "latency_target": "cpu-1"}
        super().__init__(folder, make_teacher, budgets=[budget])
        self.builder = "cmp_a-1"
        samples = [
            LatencySample(architecture=one.architecture.to_json(), p50_ms=1.0, p95_ms=1.0, agrees=True)
            for one in self.candidates
        ]
        target = self.stages.targets()["cpu-1"]
        self.samples = LatencySamples(target=target, samples=samples, device="d", versions={}, measured_at="now")
        self.measure = LatencyMeasure(
            target=target, p50_ms=26.1, p95_ms=30.0, spread=0.0, repeats_p50_ms=[26.1, 26.1], agrees=True,
            teacher_p50_ms=52.2, teacher_repeats_p50_ms=[52.2, 52.2], speed_up=2.0, device="d", versions={},
            measured_at="now",
        )  # fmt: skip
        monkeypatch.setattr(answering_stages, "build_samples", self._build_samples)
        monkeypatch.setattr(answering_stages, "build_measure", self._build_measure)

    def _build_samples(self, _: Run, __: Asked, ___: TeacherStage, ____: Choice, progress: Any) -> Artifact:
        if self.builder == "cmp_a-1":
            progress(0, 40)
            progress(40, 40)
        return commit(self.storage, Key("latency-samples", {}), self.builder, self.samples.model_dump(mode="json"))

    def _build_measure(self, _: Run, asked: Asked, __: TeacherStage, ___: SavedStudent) -> Artifact:
        asked.wait("waiting")
        asked.wait(None)
        return commit(self.storage, Key("latency", {}), self.builder, self.measure.model_dump(mode="json"))

    def answer(self) -> None:
        """The stages that the answer to a budget calls, with two students."""
        target = self.stages.targets()["cpu-1"]
        self.stages.latency_models(self.trained, target)
        for done in (0, 1):
            self.stages.report_measured(done + 1, done)
            self.stages.measure(self.trained, self.make("student"), target)
            self.stages.report_measured(done + 1, done + 1)

    def step(self) -> StepDocument:
        self.progress.flush()
        found = JobFolder(self.storage, "cmp_a").read_progress(1)
        assert found is not None
        return next(step for step in found.steps if step.name == "latency")


def test_the_latency_step_counts_the_students_that_are_measured(
    make_teacher: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Measured(tmp_path, make_teacher, monkeypatch)
    scene.answer()
    step = scene.step()
    assert (step.status, step.done, step.total, step.reused, step.note) == ("succeeded", 42, 42, False, None)
    scene.stages.report_measured(3, 2)
    step = scene.step()
    assert (step.status, step.done, step.total) == ("running", 42, 43)


@pytest.mark.parametrize("students", ["cmp_z-1", "cmp_a-1"])
def test_the_latency_step_is_reused_only_if_no_student_was_measured(
    students: str, make_teacher: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Measured(tmp_path, make_teacher, monkeypatch)
    scene.builder = "cmp_z-1"
    scene.stages.latency_models(scene.trained, scene.samples.target)
    assert scene.step().reused
    scene.builder = students
    scene.stages.report_measured(1, 0)
    scene.stages.measure(scene.trained, scene.make("student"), scene.samples.target)
    scene.stages.report_measured(1, 1)
    assert scene.step().reused == (students == "cmp_z-1")


def test_an_event_names_the_student_that_failed_its_budget_when_measured(
    make_teacher: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Measured(tmp_path, make_teacher, monkeypatch)
    scene.stages.report_late(scene.request.budgets[0], scene.candidates[0], scene.measure)
    scene.progress.flush()
    (event,) = JobFolder(scene.storage, "cmp_a").read_events(1)
    assert event.type == "late" and "26.1 ms on cpu-1, over the 20 ms of the budget quick" in event.message
    assert event.data == {
        "budget": "quick", "architecture": scene.candidates[0].architecture.to_json(), "latency_ms": 26.1,
        "max_latency_ms": 20.0, "agrees": True,
    }  # fmt: skip


def test_new_budgets_find_the_student_of_the_same_search_and_no_other(
    make_teacher: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, make_teacher)
    one = scene.candidates[0]
    superlm = scene.trained.superlms[one.subspace]
    key = student_key(scene.trained.scores, superlm, one.architecture, scene.request.export)
    theirs = commit(scene.storage, key, "cmp_other-1", {})
    monkeypatch.setattr(StageCache, "get_or_build", lambda self, step, key, build: find(scene.storage, key))
    assert scene.stages.save_student(replace(scene.trained, reloaded=True), one, superlm) == theirs
    assert scene.stages.save_student(replace(scene.trained, scores=scene.make("scores", "other")), one, superlm) is None
