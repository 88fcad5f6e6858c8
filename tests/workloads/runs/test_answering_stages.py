"""The stages between scores and students: what they hand to the Ray programs, and what they make of the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from workloads import teacher_files
from workloads.artifacts import Artifact, Key, commit
from workloads.choosing import Scored
from workloads.job_folder import JobFolder
from workloads.request import parse_request
from workloads.runs import answering_stages
from workloads.runs.answering_stages import StoredAnswering
from workloads.runs.attempt import Attempt
from workloads.runs.polish import PolishJob
from workloads.runs.progress import Progress
from workloads.runs.steps import step_names
from workloads.spaces import relative_spaces
from workloads.storage import Storage
from workloads.trained import TeacherStage, Trained

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
                "budgets": [{"name": "any", "max_params": 10**9}], **request,
            }
        )  # fmt: skip
        superlms = {space.name: self.make("superlm", space.name) for space in spaces}
        teacher = TeacherStage(self.make("teacher"), "t", shape)
        self.trained = Trained(teacher, self.make("corpus"), spaces, superlms, self.make("scores"))
        self.candidates = [Scored(space.name, space.largest, 0.5, 0.9) for space in spaces]
        progress = Progress(JobFolder(self.storage, "cmp_a"), 1)
        progress.declare(step_names(self.request))
        self.used: dict[str, list[str]] = {}
        self.stages = StoredAnswering(
            Attempt(self.storage, self.request, job="cmp_a", attempt=1, progress=progress, work=folder, used=self.used)
        )

    def make(self, stage: str, name: str = "") -> Artifact:
        return commit(self.storage, Key(stage, {"test": name}), "cmp_a-1", {})


@pytest.mark.parametrize("task", [TASK, None])
def test_the_polished_are_scored_on_the_proxy_task_by_their_own_weights(
    task: dict[str, Any] | None, make_teacher: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, make_teacher, polish={"tokens": 10**6}, proxy_task=task)
    fine_tuned: list[tuple[Scored, str]] = []

    def polish_students(*_: Any, chosen: Sequence[PolishJob], **__: Any) -> dict[Any, Artifact]:
        return {job.id: scene.make("polished", job.subspace.name) for job in chosen}

    def score_on_task(*_: Any, candidates: Sequence[Scored], superlms: Sequence[Artifact], **__: Any) -> Artifact:
        fine_tuned.extend((one, superlm.fingerprint) for one, superlm in zip(candidates, superlms, strict=True))
        return scene.make("task-scores")

    def read_task_scores(_: Storage, __: Artifact, candidates: Sequence[Scored]) -> list[Scored]:
        return [replace(one, task_score=0.1 * number) for number, one in enumerate(candidates)]

    for stand_in in (polish_students, score_on_task, read_task_scores):
        monkeypatch.setattr(answering_stages, stand_in.__name__, stand_in)
    monkeypatch.setattr(answering_stages, "score_polished", lambda *_, polished, **__: dict.fromkeys(polished, 0.25))
    polished = scene.stages.polish(scene.trained, scene.candidates)

    assert [one.scored.heldout_loss for one in polished] == [0.25, 0.25]
    own = [one.superlm.fingerprint for one in polished]
    assert own == scene.used["polished"]
    if task is None:
        assert not fine_tuned and [one.scored.task_score for one in polished] == [0.9, 0.9]
    else:
        assert [superlm for _, superlm in fine_tuned] == own
        assert [one.scored.task_score for one in polished] == [0.0, 0.1]
        assert len(scene.used["task-scores"]) == 1
