"""Polishing on Ray: chosen students continue alone, from their SuperLM's weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from tests.workloads.runs.scenes import BATCH, LENGTH, STEPS, Heard, Scene, assert_same_weights
from workloads.answers.choosing import Scored
from workloads.answers.scores_table import ScoredRow
from workloads.answers.student_key import student_key
from workloads.craft.export import build_student as build_module
from workloads.craft.signals import Batch, Wants
from workloads.craft.superlm_files import load_superlm, wiring_of
from workloads.craft.teacher import Teacher, open_teacher
from workloads.methods.steps import POLISH
from workloads.runs.attempt.run import Run
from workloads.runs.student_score import ScoreOptions, score_student
from workloads.runs.students import Origin, build_student
from workloads.runs.training.checkpoints import Checkpoints
from workloads.runs.training.polish import PolishJob, StudentId, polish_students, polished_key, score_polished
from workloads.spec.request import CompressionRequest
from workloads.spec.search import PolishSpec
from workloads.storage import artifacts
from workloads.storage.artifacts import Artifact, Key
from workloads.storage.storage import Storage

pytestmark = [pytest.mark.ray, pytest.mark.slow]

POLISH_STEPS = 24
Told = tuple[dict[StudentId, Artifact], list[str], list[Any]]


class Bench:
    """Trained SuperLMs, and two students of one and one of the other to polish."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.superlms, _, _ = scene.train(self.request(), "cmp_a-1")
        small, base = scene.spaces
        self.chosen = [
            PolishJob(small, small.smallest, self.superlms["small"]),
            PolishJob(small, small.largest, self.superlms["small"]),
            PolishJob(base, base.largest, self.superlms["base"]),
        ]

    def request(self, **training: Any) -> CompressionRequest:
        polish = PolishSpec(tokens=POLISH_STEPS * LENGTH * BATCH, learning_rate=2e-3)
        return self.scene.request(**training).model_copy(update={"polish": polish})

    def polish(self, request: CompressionRequest, chosen: list[PolishJob], builder: str) -> Told:
        progress = Heard(self.scene.storage, [POLISH])
        done = polish_students(Run(self.scene.storage, builder, progress), self.scene.inputs(request), chosen)
        return done, progress.notes, progress.reports

    def score(self, superlms: dict[StudentId, Artifact], builder: str = "cmp_a-1") -> dict[StudentId, float]:
        run = Run(self.scene.storage, builder, Heard(self.scene.storage, [POLISH]))
        return score_polished(run, self.scene.inputs(self.request()), superlms)

    def forget(self, request: CompressionRequest) -> None:
        for job in self.chosen:
            key = polished_key(request, job, self.scene.fingerprint, self.scene.corpus.fingerprint)
            self.scene.storage.remove(key.folder)

    @property
    def teacher(self) -> Teacher:
        return open_teacher(Path(self.scene.storage.path("teacher")))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, make_teacher: Callable[..., Path], ray_cluster: Any) -> Bench:
    return Bench(Scene(tmp_path_factory.mktemp("bench"), make_teacher))


def test_polished_students_are_better_than_before_and_polished_once(bench: Bench) -> None:
    done, notes, reports = bench.polish(bench.request(), bench.chosen, "cmp_a-1")
    assert set(done) == {job.id for job in bench.chosen}
    names = {job.single_space.name for job in bench.chosen}
    assert all(name in notes[0] for name in names)
    drawn = {metric.removesuffix(" loss_largest") for report in reports for metric in report[3] if "largest" in metric}
    assert drawn == names
    assert all(report[2] == POLISH_STEPS * LENGTH * BATCH for report in reports)
    for job in bench.chosen:
        summary = done[job.id].summary
        assert (summary["steps"], summary["tokens"]) == (POLISH_STEPS, (POLISH_STEPS + STEPS) * LENGTH * BATCH)
        assert summary["head_order"] == job.superlm.summary["head_order"] is not None

    # A SuperLM scored as a polished student of itself says what the student was worth before.
    before = {job.id: bench.score({job.id: job.superlm})[job.id] for job in bench.chosen}
    after = bench.score(done)
    assert all(after[student] < 0.9 * before[student] for student in before), (before, after)
    assert bench.score(dict(reversed(done.items())), "cmp_z-1") == after

    again, notes, reports = bench.polish(bench.request(), bench.chosen[::-1], "cmp_b-1")
    assert (again, notes, reports) == (done, [], [])


def test_the_saved_student_gives_what_its_polished_superlm_gives(bench: Bench, tmp_path: Path) -> None:
    job = bench.chosen[0]
    polished = bench.polish(bench.request(), bench.chosen, "cmp_a-1")[0][job.id]
    storage, teacher = bench.scene.storage, bench.teacher
    superlm = load_superlm(Path(storage.path(polished.files)), wiring_of(teacher)).eval()
    stages = {"corpus": bench.scene.corpus, "superlm": polished}
    scores = artifacts.commit(storage, Key("scores", {}), "cmp_a-1", {})
    scored = Scored("small", job.architecture, 1.0)
    rows = [ScoredRow(scored, 4, 0, None), ScoredRow(Scored("small", job.subspace.largest, 0.9), 4, 0, None)]
    origin = Origin(bench.request(), teacher, superlm, stages, rows)
    key = student_key(scores, polished, job.architecture, bench.request().export)
    student = build_student(Run(storage, "cmp_a-1", Heard(storage, [])), origin, scored, key, tmp_path / "student")
    assert student.summary["heldout_loss"] == 1.0
    loss = bench.score({job.id: polished})[job.id]
    options = ScoreOptions(teacher=str(teacher.folder), storage=storage)
    found = score_student(Path(storage.path(student.files)), options, tmp_path)
    assert found.heldout_loss == pytest.approx(loss, rel=1e-3)

    batch = Batch(torch.randint(5, 60, (3, LENGTH)))
    with torch.no_grad():
        expected = superlm(batch, job.architecture, Wants(output=True)).output_BLH
        given = build_module(teacher, job.architecture, superlm.extract(job.architecture))(batch.input_ids_BL)
        saved = AutoModel.from_pretrained(tmp_path / "student").eval()(batch.input_ids_BL)
    torch.testing.assert_close(given.last_hidden_state, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(saved.last_hidden_state, expected, rtol=1e-4, atol=1e-5)


def test_with_whom_a_student_is_polished_changes_nothing(bench: Bench) -> None:
    together, _, _ = bench.polish(bench.request(), bench.chosen, "cmp_a-1")
    kept = {student: bench.scene.weights(artifact) for student, artifact in together.items()}
    bench.forget(bench.request())
    for number, job in enumerate(bench.chosen[:2]):
        alone, _, _ = bench.polish(bench.request(), [job], f"cmp_alone{number}-1")
        assert_same_weights(kept[job.id], bench.scene.weights(alone[job.id]))


def test_polishing_continued_from_a_checkpoint_ends_with_the_same_weights(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _, _ = bench.polish(bench.request(), bench.chosen, "cmp_whole-1")
    kept = {student: bench.scene.weights(artifact) for student, artifact in whole.items()}
    bench.forget(bench.request())
    request = bench.request(checkpoint_every_steps=16)  # no part of the key
    real = Storage.remove
    monkeypatch.setattr(  # the checkpoints of a first attempt stay, as after a kill
        Storage, "remove", lambda self, path: None if "artifacts/training" in path else real(self, path)
    )
    bench.polish(request, bench.chosen, "cmp_b-1")
    monkeypatch.undo()
    bench.forget(request)
    folders = {path.split("/")[0] for path in bench.scene.storage.list("artifacts/training")}
    (folder,) = {name for name in folders if not name.endswith("-ray")}
    latest = Checkpoints(bench.scene.storage, f"artifacts/training/{folder}", "cmp_c-1").latest()
    assert latest is not None and latest[0] == 16
    continued, _, reports = bench.polish(request, bench.chosen, "cmp_c-1")
    assert min(report[1] for report in reports) > 16 * LENGTH * BATCH
    for student, artifact in continued.items():
        assert_same_weights(kept[student], bench.scene.weights(artifact))
