"""The pace of a step read during a run: it holds for the time of reading, not of the last news."""

from datetime import UTC, datetime, timedelta

import pytest

from workloads.documents.job_folder import JobFolder, ProgressDocument, StepDocument, now
from workloads.documents.pace import NEWS_SECONDS, WINDOW_SECONDS, at_present
from workloads.storage.storage import Storage

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def _step(**more):
    given = {
        "name": "train", "status": "running", "done": 10, "total": 110, "rate": 5.0, "seconds_left": 20.0,
        "advanced_at": "2026-01-01T00:00:00.000Z",
    }  # fmt: skip
    return StepDocument(**given | more)


def test_without_news_the_rate_decays_and_the_time_left_grows():
    found = [at_present(_step(), MOMENT + timedelta(seconds=silent)) for silent in (0, NEWS_SECONDS, 35, 95, 3605)]
    assert [one.silent_seconds for one in found] == [0, 5, 35, 95, 3605]
    assert [one.rate for one in found[:2]] == [5.0, 5.0]
    assert found[2].rate == pytest.approx(2.5) and found[2].seconds_left == pytest.approx(40)
    assert found[4].rate < 0.05 and found[4].seconds_left > 2000
    assert WINDOW_SECONDS == 30


@pytest.mark.parametrize(
    "step",
    [_step(status="succeeded"), _step(advanced_at=None), _step(advanced_at="yesterday"), _step(status="pending")],
)
def test_a_step_that_does_not_run_or_does_not_say_is_left_as_it_is(step):
    assert at_present(step, MOMENT + timedelta(hours=1)) == step


def test_a_clock_that_is_behind_the_runs_gives_no_negative_age():
    assert at_present(_step(), MOMENT - timedelta(hours=1)).silent_seconds == 0


def test_a_jobs_folder_gives_its_steps_as_they_are_now(tmp_path):
    folder = JobFolder(Storage.open(str(tmp_path)), "cmp_1")
    folder.write_progress(1, ProgressDocument(updated_at=now(), steps=[_step()]))
    [step] = folder.read_progress(1).steps
    assert step.silent_seconds > 3600 and step.rate < 0.1
