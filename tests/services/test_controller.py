"""The controller on a real embedded Ray, one head for the module; the runs are scripted_run.py's."""

import os
import time
from pathlib import Path

import psutil
import pytest

from services.embedded.processes import marked_processes
from services.embedded.record import HeadRecord
from services.jobs.ray_jobs import RayJobs, RayUnreachableError
from services.jobs.states import AttemptStatus, JobStatus
from services.service import Service
from services.settings import load_settings
from tests.services.conftest import HERE, RUN_MODULE, wait_until

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
        service = Service(
            load_settings(
                storage=str(tmp_path_factory.mktemp("controller")),
                run_module=RUN_MODULE,
                backoff_seconds=0.2,
                ray_cpus=2,
                ray_object_store_bytes=100 << 20,
            )
        )
        service.start()
        try:
            wait_until(service.cluster.jobs, 120, "starting Ray")
            yield service
        finally:
            record = HeadRecord.load(service.state)
            service.close()
    assert record is not None
    assert marked_processes(record.marker) == []


def _end(service, job, seconds=60):
    wait_until(lambda: service.store.get(job.id).status.is_terminal, seconds, "the job")
    return service.store.get(job.id)


def _run_process(service, job, attempt=1):
    """The driver's process, from the file that it leaves of its id."""
    folder = Path(service.storage.path(f"jobs/{job.id}/attempts/{attempt}"))
    wait_until(lambda: list(folder.glob("pid-*[0-9]")), 60, "the start of the run")
    return psutil.Process(int(next(folder.glob("pid-*[0-9]")).name.removeprefix("pid-")))


def _steps(service, job):
    return {step.name: step.status for step in service.document(service.store.get(job.id)).steps}


def test_a_job_runs_to_its_students(service, make_request):
    job = _end(service, service.submit(make_request(act="succeed")))
    assert (job.status, job.attempt) == (JobStatus.SUCCEEDED, 1)
    document = service.document(job)
    assert [student.budget for student in document.students] == ["edge"]
    assert Path(document.students[0].files, "config.json").exists()
    assert [item.budget for item in document.infeasible] == ["impossible"]
    assert _steps(service, job) == {"prepare corpus": "succeeded", "train": "succeeded"}


def test_what_a_job_has_stored_counts_however_it_has_ended(service, make_request):
    def stored():
        return service.standing("local")[1].stored_bytes

    before = stored()
    hanging = service.submit(make_request(act="hang"))
    wait_until(lambda: _steps(service, hanging), 60, "the start of the run")
    service.cancel(hanging.id)
    assert _end(service, hanging).status is JobStatus.CANCELLED
    assert stored() - before == 1000
    _end(service, service.submit(make_request(act="invalid")))
    assert stored() - before == 2000
    _end(service, service.submit(make_request(act="succeed")))
    assert stored() - before == 4000


def test_wrong_input_fails_the_job_at_once_with_field_and_remedy(service, make_request):
    job = _end(service, service.submit(make_request(act="invalid")))
    assert (job.status, job.attempt) == (JobStatus.FAILED, 1)
    error = service.document(job).error
    assert (error.code, error.field, error.remedy) == ("invalid_input", "corpus.paths", "Give another.")
    assert _steps(service, job)["train"] == "failed"


def test_a_run_that_dies_without_a_result_is_tried_again_and_its_output_kept(service, make_request):
    job = _end(service, service.submit(make_request(act="crash", good_attempt=2)))
    assert (job.status, job.attempt) == (JobStatus.SUCCEEDED, 2)
    first = job.attempts[0]
    assert first.status is AttemptStatus.LOST
    assert "without a result" in first.reason
    assert b"about to die" in service.storage.read_bytes(f"jobs/{job.id}/attempts/1/driver.log")


@pytest.mark.slow
def test_a_run_that_found_the_hub_away_is_tried_again(service, make_request):
    job = _end(service, service.submit(make_request(act="unreachable", good_attempt=2)))
    assert [attempt.status for attempt in job.attempts] == [AttemptStatus.FAILED, AttemptStatus.SUCCEEDED]


@pytest.mark.parametrize(("act", "code"), [("internal", "internal"), ("garbage", "internal")])
@pytest.mark.slow
def test_a_run_that_keeps_failing_is_given_up_after_three_attempts(service, make_request, act, code):
    job = _end(service, service.submit(make_request(act=act)), 120)
    assert (job.status, job.attempt) == (JobStatus.FAILED, 3)
    assert [attempt.status for attempt in job.attempts] == [AttemptStatus.FAILED] * 3
    assert service.document(job).error.code == code


def test_a_running_job_is_cancelled_within_ten_seconds_and_nothing_of_it_is_left(service, make_request):
    job = service.submit(make_request(act="hang"))
    driver = _run_process(service, job)
    wait_until(driver.children, 10, "the run's own child")
    family = [driver, *driver.children(recursive=True)]
    assert service.cancel(job.id).status is JobStatus.CANCELLING
    job = _end(service, job, 10)
    assert (job.status, job.latest.status) == (JobStatus.CANCELLED, AttemptStatus.CANCELLED)
    assert _steps(service, job)["train"] == "failed"
    _, alive = psutil.wait_procs(family, timeout=1)
    assert alive == []


@pytest.mark.slow
def test_a_job_is_cancelled_while_it_is_being_submitted(service, make_request):
    job = service.submit(make_request(act="hang"))
    wait_until(lambda: service.store.get(job.id).attempt, 10, "the first attempt")
    assert service.cancel(job.id).status is JobStatus.CANCELLING
    assert _end(service, job, 10).status is JobStatus.CANCELLED
    found = service.cluster.jobs().get(job.id + "-1")
    assert found is None or found.status.is_terminal


def test_the_run_is_the_very_process_that_ray_stops(service, make_request):
    """A run below a shell outlived one cancellation in ten: Ray misses what the shell is just forking."""
    job = service.submit(make_request(act="hang"))
    assert "JobSupervisor" in " ".join(_run_process(service, job).parent().cmdline())
    service.cancel(job.id)
    _end(service, job, 10)


@pytest.mark.soak
def test_no_run_outlives_a_cancellation_whenever_it_comes(service, make_request):
    for n in range(40):
        job = service.submit(make_request(act="hang", seconds=0))
        wait_until(lambda job=job: service.store.get(job.id).attempt, 10, "the first attempt")
        time.sleep(0.03 * n)
        service.cancel(job.id)
        _end(service, job, 10)
        runs = [one for one in psutil.process_iter(["cmdline"]) if job.id in (one.info["cmdline"] or [])]
        assert runs == [], f"cancelled after {0.03 * n:.2f} s"
        service.delete(job.id)


def test_submitting_the_same_attempt_again_starts_nothing(service, make_request):
    job = _end(service, service.submit(make_request(act="succeed")))
    ray = service.cluster.jobs()
    before = ray.get(job.latest.submission_id)
    ray.submit(job.latest.submission_id, ["false"])
    assert ray.get(job.latest.submission_id) == before


def test_ray_asks_for_the_token_of_this_storage(service):
    url = service.cluster.jobs().url
    for token in (None, "guessed"):
        with RayJobs(url, token) as stranger, pytest.raises(RayUnreachableError, match="refuses the token"):
            stranger.version()
    assert (service.state / "ray.token").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_when_the_head_dies_in_mid_run_another_is_started_and_the_job_goes_on(service, make_request):
    job = service.submit(make_request(act="hang", good_attempt=2))
    driver = _run_process(service, job)
    before = HeadRecord.load(service.state)
    psutil.Process(before.pid).kill()
    job = _end(service, job, 120)
    assert (job.status, job.attempt) == (JobStatus.SUCCEEDED, 2)
    assert job.attempts[0].status is AttemptStatus.RAY_LOST
    assert job.ray_losses == 1, "the death of Ray is not a failure of the job"
    assert not driver.is_running()
    assert marked_processes(before.marker) == []
    assert HeadRecord.load(service.state).marker != before.marker
