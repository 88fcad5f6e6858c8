"""Reports of an evaluation's workers, without Ray."""

from __future__ import annotations

from pathlib import Path

from workloads.documents.job_folder import JobFolder
from workloads.runs.attempt.progress import Progress
from workloads.runs.evaluation_seeds import _Report, _show, seed_step
from workloads.storage.storage import Storage


def test_reports_lead_to_a_step_that_is_done_and_to_its_curve(tmp_path: Path) -> None:
    folder = JobFolder(Storage.open(str(tmp_path)), "evl_a")
    progress, step = Progress(folder, 1), seed_step(3)
    progress.declare([step])
    for report in (_Report(3, 0, 8), _Report(3, 4, 8), _Report(3, 8, 8), _Report(3, 8, 8, {"score": 0.5})):
        _show(report, progress)
    progress.finish(step)
    progress.flush()
    found = folder.read_progress(1)
    assert found is not None
    assert (found.steps[0].status, found.steps[0].done, found.steps[0].total) == ("succeeded", 8, 8)
    assert [event.type for event in folder.read_events(1)] == ["metrics"]
