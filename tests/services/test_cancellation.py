"""A real compression on a real Ray is cancelled in the middle of its training, and resumed to its end."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest

from services.embedded.processes import marked_processes
from services.embedded.record import HeadRecord
from services.jobs.states import AttemptStatus, JobStatus
from services.service import Service
from services.settings import load_settings
from tests.services.conftest import wait_until
from tests.workloads.runs.scenes import ROOT, House, last_checkpoint
from workloads.documents.job_folder import JobFolder

pytestmark = [pytest.mark.ray, pytest.mark.slow]

STEPS, EVERY, TOKENS_A_STEP = 160, 20, 4 * 32
CPUS = 2
WORK = ("ray::TrainingWorker", "ray::RayTrainWorker", "ray::TrainController", "ray::run_group")


@pytest.fixture
def service(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        service = Service(
            load_settings(
                storage=str(tmp_path / "storage"), ray_cpus=CPUS, ray_object_store_bytes=100 << 20, insecure_local=True
            )
        )
        service.start()
        try:
            wait_until(service.cluster.jobs, 120, "starting Ray")
            yield service
        finally:
            service.close()


def _workers(service):
    """Find the processes of a job: its driver and its training workers."""
    found = []
    for process in marked_processes(HeadRecord.load(service.state).marker):
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        told = " ".join(command)
        if told.startswith(WORK) or "workloads.runs.job" in told:
            found.append(told)
    return found


def _free_cpus(service):
    """Ask Ray, from another process, for the CPUs that the next job could have."""
    record = HeadRecord.load(service.state)
    program = f"import json, ray; ray.init({record.gcs_address!r}); print(json.dumps(ray.available_resources()))"
    environment = os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(service.state / "ray.token"),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # else Ray asks at the machine's address, where nothing listens
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])["CPU"]


def test_cancelled_in_mid_training_it_frees_all_within_ten_seconds_and_resumed_it_goes_on(
    service, make_teacher, tmp_path
):
    house = House.furnish(tmp_path, service.settings.storage, make_teacher, "")
    request = house.longer_request(STEPS, checkpoint_every_steps=EVERY)
    job = service.submit(request)
    wait_until(lambda: last_checkpoint(service.storage), 180, "the first checkpoint")
    assert any("TrainingWorker" in told for told in _workers(service))

    begun = time.monotonic()
    assert service.cancel(job.id).status is JobStatus.CANCELLING
    wait_until(lambda: service.store.get(job.id).status is JobStatus.CANCELLED, 10, "the cancellation")
    while left := _workers(service):
        assert time.monotonic() - begun < 10, left
        time.sleep(0.1)
    assert _free_cpus(service) == CPUS
    kept = last_checkpoint(service.storage)
    assert EVERY <= kept < STEPS

    assert service.resume(job.id).status is JobStatus.QUEUED
    wait_until(lambda: service.store.get(job.id).status.is_terminal, 240, "the rest of the job")
    job = service.store.get(job.id)
    assert (job.status, [one.status for one in job.attempts]) == (
        JobStatus.SUCCEEDED, [AttemptStatus.CANCELLED, AttemptStatus.SUCCEEDED],
    )  # fmt: skip
    events = JobFolder(service.storage, job.id).read_events(2)
    drawn = [event.data["done"] for event in events if event.type == "metrics"]
    assert kept * TOKENS_A_STEP < min(drawn) < max(drawn) == STEPS * TOKENS_A_STEP
    steps = {step.name: step for step in service.document(job).steps}
    assert steps["corpus"].reused  # what was finished before is not done again
