"""Reports of an evaluation's workers, without Ray."""

from __future__ import annotations

from pathlib import Path

from workloads.documents.job_folder import JobFolder
from workloads.runs.attempt.progress import Progress
from workloads.runs.evaluation import _Report, _show, seed_step
from workloads.storage.storage import Storage


def test_a_report_after_the_score_adds_to_the_curve_and_leaves_the_step_done(tmp_path: Path) -> None:
    folder = JobFolder(Storage.open(str(tmp_path)), "evl_a")
    progress, step = Progress(folder, 1), seed_step(3)
    progress.declare([step])
    _show(_Report(3, 0, 8), progress, has_ended=False)
    _show(_Report(3, 4, 8), progress, has_ended=False)
    progress.finish(step)
    _show(_Report(3, 0, 8), progress, has_ended=True)
    _show(_Report(3, 8, 8, {"score": 0.5}), progress, has_ended=True)
    progress.flush()
    found = folder.read_progress(1)
    assert found is not None
    assert (found.steps[0].status, found.steps[0].done) == ("succeeded", 8)
    assert [event.type for event in folder.read_events(1)] == ["metrics"]
