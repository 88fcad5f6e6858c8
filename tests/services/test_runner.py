"""The runner's handling of ended attempts, without Ray: causes and retries."""

import pytest

from services.embedded.cluster import Readiness
from services.jobs.documents import job_document
from services.jobs.driver_log import read_log
from services.jobs.ray_jobs import RayJob, RayJobStatus, RayUnreachableError
from services.jobs.records import NewJob
from services.jobs.runner import RetryPolicy, Runner
from services.jobs.states import AttemptStatus, JobStatus
from workloads.documents.job_folder import ErrorDocument, JobFolder, ResultDocument
from workloads.storage.storage import Storage

DRIVER = RayJob(RayJobStatus.FAILED, "Job entrypoint command failed with exit code 1, last available logs: x")
NODE = RayJob(RayJobStatus.FAILED, "Unexpected error occurred: The actor died because its node has died. Node Id: 1f")
SUPERVISOR = RayJob(RayJobStatus.FAILED, "Job supervisor actor died: The actor is dead because its owner has died.")


class FakeRay:
    """Answers for one job."""

    def __init__(self, found):
        self.found = found

    def get(self, _submission_id):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def log_tail(self, _submission_id):
        return "Traceback\nValueError: no\n"


@pytest.fixture
def storage(tmp_path):
    return Storage.open(str(tmp_path / "storage"))


@pytest.fixture
def runner(work, storage):
    return Runner(work, storage, RetryPolicy(max_attempts=2, backoff_seconds=0, max_ray_losses=3), "no.module")


def _begin(store, work, job=None):
    job = work.begin_attempt(job.id if job else store.create(NewJob({})).id)
    return work.mark_submitted(job.id, job.attempt)


@pytest.mark.parametrize("found", [None, NODE, SUPERVISOR])
def test_a_death_of_ray_is_no_failure_of_the_job_and_has_a_bound_of_its_own(store, work, runner, found):
    job = _begin(store, work)
    for count in (1, 2):
        runner.follow(job, FakeRay(found))
        job = store.get(job.id)
        assert (job.status, job.failures, job.ray_losses) == (JobStatus.QUEUED, 0, count)
        assert f"not count as a failure of the job. Ray has died under it {count} times, of 3 at most" in job.reason
        job = _begin(store, work, job)
    runner.follow(job, FakeRay(found))
    job = store.get(job.id)
    assert (job.status, job.failures) == (JobStatus.FAILED, 0)
    assert "3 times" in job.result.error.message
    assert store.resume(job.id).ray_losses == 0


def test_a_driver_that_dies_by_itself_is_a_failure_of_the_job(store, work, runner):
    job = _begin(store, work)
    runner.follow(job, FakeRay(DRIVER))
    job = store.get(job.id)
    assert (job.latest.status, job.failures) == (AttemptStatus.LOST, 1)
    assert "ValueError: no" in job.reason


@pytest.mark.parametrize(
    ("ray", "code", "failures"),
    [
        (None, "internal", 0),
        (FakeRay(None), "internal", 0),
        (FakeRay(RayUnreachableError("Connection refused")), "internal", 0),
        (FakeRay(DRIVER), "internal", 1),
        (FakeRay(None), "unreachable", 1),
    ],
)
def test_an_error_that_a_run_tells_while_ray_dies_under_it_is_not_its_own(
    store, work, runner, storage, ray, code, failures
):
    job = _begin(store, work)
    error = ErrorDocument(code=code, message="GCS is gone.")
    JobFolder(storage, job.id).write_result(1, ResultDocument(status="failed", error=error))
    runner.follow(job, ray)
    job = store.get(job.id)
    assert (job.status, job.failures, "GCS is gone." in job.reason) == (JobStatus.QUEUED, failures, True)


@pytest.mark.parametrize("state", ["starting", "unavailable", "stopped"])
def test_while_ray_is_away_a_job_says_so_in_plain_words(store, work, storage, state):
    socket_error = "Ray at http://127.0.0.1:9 does not answer: [Errno 111] Connection refused."
    job = _begin(store, work)
    assert "the state of the run is unknown" in job_document(job, storage, Readiness(state, socket_error)).reason
    assert job_document(job, storage, Readiness("ready", "")).reason is None
    queued = store.create(NewJob({}))
    assert "waits for Ray" in job_document(queued, storage, Readiness(state, socket_error)).reason


def _result(storage, job, code):
    error = ErrorDocument(code=code, message="no")
    JobFolder(storage, job.id).write_result(job.attempt, ResultDocument(status="failed", error=error))


@pytest.mark.parametrize("code", ["internal", "invalid_input"])
def test_the_log_of_an_attempt_that_told_why_it_failed_is_kept(store, work, runner, storage, code):
    job = _begin(store, work)
    _result(storage, job, code)
    runner.follow(job, FakeRay(DRIVER))
    job = store.get(job.id)
    assert job.latest.status is AttemptStatus.FAILED
    assert read_log(job, 1, 10, storage, None) == "Traceback\nValueError: no\n"


def test_the_log_of_a_cancelled_attempt_and_of_one_that_ray_lost_is_kept(store, work, runner, storage):
    cancelled, lost = _begin(store, work), _begin(store, work)
    store.request_cancel(cancelled.id)
    runner.cancel(store.get(cancelled.id), FakeRay(RayJob(RayJobStatus.STOPPED, "")))
    runner.follow(lost, FakeRay(NODE))
    for job, status in ((cancelled, AttemptStatus.CANCELLED), (lost, AttemptStatus.RAY_LOST)):
        assert store.get(job.id).latest.status is status
        assert "ValueError: no" in read_log(store.get(job.id), 1, 10, storage, None)


def test_a_log_that_cannot_be_had_keeps_no_attempt_from_ending(store, work, runner, storage, monkeypatch):
    job, ray = _begin(store, work), FakeRay(DRIVER)
    _result(storage, job, "invalid_input")

    def unreachable(_id):
        raise RayUnreachableError("Connection refused")

    monkeypatch.setattr(ray, "log_tail", unreachable)
    runner.follow(job, ray)
    assert store.get(job.id).status is JobStatus.FAILED
