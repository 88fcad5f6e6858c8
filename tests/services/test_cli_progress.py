"""The live view of a job's steps."""

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from services.cli import progress_view
from services.cli.progress_view import ProgressView
from services.cli.waiting import MAX_LOOK_SECONDS, Looks
from services.jobs.documents import JobDocument, RayDocument
from services.jobs.states import JobStatus
from workloads.documents.job_folder import StepDocument

NOTE = "placement tiny + small + base: together, for one teacher forward a batch serves all three and costs least here"


@pytest.fixture
def job(make_request):
    steps = [
        StepDocument(
            name=f"train-{name}", status="running", done=123_456, total=163_840, unit="tokens", rate=831.9,
            seconds_left=48.0, note=NOTE,
        )
        for name in ("tiny", "small", "base")
    ]  # fmt: skip
    return JobDocument(
        id="cmp_1", status=JobStatus.RUNNING, attempt=1, created_at=datetime(2026, 1, 1, tzinfo=UTC), steps=steps,
        request=make_request(), students=[], infeasible=[], attempts=[], error=None,
        ray=RayDocument(state="ready", note=""),
    )  # fmt: skip


@pytest.mark.parametrize("terminal", [True, False])
def test_what_several_steps_have_in_common_is_said_once_and_hides_no_numbers(monkeypatch, job, terminal):
    shown = io.StringIO()
    console = Console(file=shown, width=80, force_terminal=terminal, color_system=None)
    monkeypatch.setattr(progress_view, "Console", lambda **_: console)
    with ProgressView() as view:
        view.show(job)
        view.show(job)
    text = shown.getvalue().rpartition("cmp_1")[2]
    assert " ".join(text.split()).count(NOTE) == 1
    rows = [line for line in text.splitlines() if "123,456/163,840 tokens" in line]
    assert len(rows) == 3
    assert all("832 tokens/s" in row and "0:48" in row for row in rows)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_step_without_news_is_shown_with_the_age_of_its_last_sign(monkeypatch, job, terminal):
    shown = io.StringIO()
    console = Console(file=shown, width=120, force_terminal=terminal, color_system=None)
    monkeypatch.setattr(progress_view, "Console", lambda **_: console)
    silent = [step.model_copy(update={"silent_seconds": 125.0, "note": None}) for step in job.steps[:1]]
    with ProgressView() as view:
        view.show(job.model_copy(update={"steps": silent}))
    assert "no sign for 2:05" in shown.getvalue()


def test_looks_at_what_takes_long_become_rare():
    times = iter((0.0, 0.0, 1.0, 10.0, 20.0, 1000.0))
    looks = Looks(lambda: next(times))
    pauses = [looks.pause for _ in range(5)]
    assert pauses == [0.5, 0.5, 1.0, 2.0, MAX_LOOK_SECONDS]
