"""Several services on one database and one Ray: real processes, a real PostgreSQL."""

import signal
import time
import uuid
from collections import Counter

import psycopg
import pytest

from services.client import StillroomClient
from services.jobs.database import open_database
from services.jobs.ray_jobs import RayJobs
from services.jobs.rows import Sessions
from services.jobs.states import AttemptStatus, JobStatus
from services.jobs.tables import JobRow
from tests.services.conftest import wait_until
from tests.services.replicas import Replica, ray_beside, runs_of
from workloads.storage.storage import Storage

pytestmark = pytest.mark.ray

CLAIM_SECONDS = 3


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    with ray_beside(tmp_path_factory.mktemp("ray")) as found:
        yield found


class House:
    """Two services, what they share, and a look at it from outside."""

    def __init__(self, folder, database, ray):
        url, token = ray
        self.database = database
        self.storage = Storage.open(str(folder / "storage"))
        settings = {
            "database": database, "storage": str(folder / "storage"), "ray_address": url, "ray_token": token,
            "claim_seconds": str(CLAIM_SECONDS), "max_running": "4", "poll_seconds": "0.1",
        }  # fmt: skip
        self.ray = RayJobs(url, token)
        self.replicas = [Replica(folder / name, settings).start() for name in ("one", "two")]
        for replica in self.replicas:
            replica.wait_ready()
        self.clients = [StillroomClient(replica.url) for replica in self.replicas]

    def owner_of(self, job_id):
        """Which of the two holds the claim on a job; by the process id in the owner's name."""
        engine = open_database(self.database)
        with Sessions(engine).reading() as session:
            owner = session.query(JobRow.owner).filter(JobRow.id == job_id).scalar()
        engine.dispose()
        found = [n for n, one in enumerate(self.replicas) if owner and f"-{one.process.pid}-" in owner]
        return found[0] if found else None

    def runs_of(self, job_id):
        return runs_of(self.storage, job_id)

    def close(self):
        for replica in self.replicas:
            replica.stop()
        for client in self.clients:
            client.close()
        self.ray.close()


@pytest.fixture
def house(tmp_path, postgres, ray):
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres.format("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    house = House(tmp_path, postgres.format(name), ray)
    yield house
    house.close()


def _ended(client, ids, seconds):
    wait_until(lambda: all(client.get(one).status.is_terminal for one in ids), seconds, f"{len(ids)} jobs")
    return [client.get(one) for one in ids]


@pytest.mark.slow
def test_when_one_of_two_is_killed_the_other_ends_its_jobs_and_none_runs_twice(house, make_request):
    ids = [house.clients[n % 2].submit(make_request(act="succeed", seconds=4)).id for n in range(6)]
    wait_until(
        lambda: {house.owner_of(one) for one in ids} >= {0, 1} and sum(map(len, map(house.runs_of, ids))) >= 4,
        60, "both at work",
    )  # fmt: skip
    house.replicas[0].kill()
    jobs = _ended(house.clients[1], ids, 90)
    assert Counter(job.status for job in jobs) == {JobStatus.SUCCEEDED: 6}
    assert [job.attempt for job in jobs] == [1] * 6  # none was lost with the service that looked after it
    assert [house.runs_of(one) for one in ids] == [{1: 1}] * 6
    assert house.owner_of(ids[0]) is None


@pytest.mark.slow
def test_a_job_is_cancelled_through_the_service_that_does_not_look_after_it(house, make_request):
    job_id = house.clients[0].submit(make_request(act="hang")).id
    wait_until(lambda: house.runs_of(job_id) == {1: 1}, 60, "the start of the run")
    other = house.clients[1 - house.owner_of(job_id)]
    begun = time.monotonic()
    assert other.cancel(job_id).status is JobStatus.CANCELLING
    (job,) = _ended(other, [job_id], 10)
    assert job.status is JobStatus.CANCELLED
    assert house.ray.get(f"{job_id}-1").status.is_terminal
    assert time.monotonic() - begun < 10


@pytest.mark.slow
def test_a_service_that_was_held_up_for_longer_than_its_claim_changes_nothing(house, make_request):
    job_id = house.clients[0].submit(make_request(act="succeed", seconds=6)).id
    wait_until(lambda: house.runs_of(job_id) == {1: 1}, 60, "the start of the run")
    holder = house.owner_of(job_id)
    house.replicas[holder].signal(signal.SIGSTOP)
    wait_until(lambda: house.owner_of(job_id) == 1 - holder, 10 * CLAIM_SECONDS, "another claim")
    house.replicas[holder].signal(signal.SIGCONT)
    (job,) = _ended(house.clients[1 - holder], [job_id], 60)
    assert (job.status, [one.status for one in job.attempts]) == (JobStatus.SUCCEEDED, [AttemptStatus.SUCCEEDED])
    assert house.clients[holder].get(job_id).status is JobStatus.SUCCEEDED
    assert house.runs_of(job_id) == {1: 1}


@pytest.mark.slow
def test_a_service_that_is_stopped_in_order_leaves_its_runs_to_the_other_at_once(house, make_request):
    job_id = house.clients[0].submit(make_request(act="succeed", seconds=6)).id
    wait_until(lambda: house.runs_of(job_id) == {1: 1}, 60, "the start of the run")
    holder = house.owner_of(job_id)
    house.replicas[holder].stop()
    wait_until(lambda: house.owner_of(job_id) == 1 - holder, CLAIM_SECONDS, "another claim")
    (job,) = _ended(house.clients[1 - holder], [job_id], 60)
    assert (job.status, job.attempt) == (JobStatus.SUCCEEDED, 1)
