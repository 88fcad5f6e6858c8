"""The first step of a compression: the teacher is saved in the storage, and opened before any training."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workloads.documents.job_folder import JobFolder
from workloads.runs.attempt import stage_cache
from workloads.runs.attempt.attempt import Attempt
from workloads.runs.attempt.progress import Progress
from workloads.runs.attempt.run import JobAttempt
from workloads.runs.attempt.stage_log import StageLog
from workloads.runs.stages.training import StoredTraining
from workloads.shapes.teacher_files import check_teacher, shape_of
from workloads.spec.errors import InputError
from workloads.spec.request import TeacherSpec, parse_request
from workloads.storage.storage import Storage

Start = Callable[[Path], tuple[StoredTraining, Progress, Storage]]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    @contextlib.contextmanager
    def alone(*_: object) -> Iterator[None]:
        yield

    monkeypatch.setattr(stage_cache, "lease", alone)

    def start(model: Path) -> tuple[StoredTraining, Progress, Storage]:
        storage = Storage.open(str(tmp_path / "storage"))
        folder = JobFolder(storage, "cmp_a")
        progress = Progress(folder, 1)
        progress.declare(["teacher"])
        budgets = [{"name": "any", "max_params": 10**9}]
        request = parse_request({"teacher": {"model": str(model)}, "corpus": {"paths": ["x"]}, "budgets": budgets})
        job = JobAttempt(folder, 1, progress, StageLog(storage, "cmp_a"))
        return StoredTraining(Attempt(job, request, tmp_path / "work")), progress, storage

    return start


def test_a_teacher_that_only_loading_shows_to_be_broken_ends_the_first_step(
    make_teacher: Callable[..., Path], tmp_path: Path, start: Start
) -> None:
    folder = make_teacher(tmp_path / "teacher", "bert", layers=1)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pad_token": None}))
    check_teacher(TeacherSpec(model=str(folder)))
    training, _, storage = start(folder)
    with pytest.raises(InputError, match="has no padding token"):
        training.teacher()
    assert not storage.list("artifacts/teacher", recursive=True)


def test_the_step_says_where_the_model_was_found(
    make_teacher: Callable[..., Path], tmp_path: Path, start: Start
) -> None:
    folder = make_teacher(tmp_path / "made", "bert", layers=1)
    hub = tmp_path / "models--acme--tiny"
    shutil.copytree(folder, hub / "snapshots/abc")
    training, progress, storage = start(hub)
    with progress:
        stage = training.teacher()
    assert stage.shape == shape_of(folder)
    assert storage.exists(f"{stage.artifact.files}/config.json")
    document = JobFolder(storage, "cmp_a").read_progress(1)
    assert document is not None
    (step,) = document.steps
    assert step.note == f"The model was found in {hub}/snapshots/abc."
