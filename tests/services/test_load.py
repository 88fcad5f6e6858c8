"""Many submissions at once while the service is killed again and again; on both kinds of database."""

import threading
import time
from collections import Counter

import pytest

from services.client import ServerUnreachableError, StillroomClient
from services.jobs.states import JobStatus
from services.jobs.store import MAX_PAGE
from tests.services.conftest import wait_until
from tests.services.replicas import Replica, ray_beside, runs_of
from workloads.storage.storage import Storage

DATABASES = ("sqlite", "postgresql")

pytestmark = [pytest.mark.ray, pytest.mark.soak]

CLIENTS, SUBMISSIONS, KILLS, RUN = 20, 1000, 5, 20
NO_RAY = "http://127.0.0.1:9"


class Crowd:
    """Clients that submit all at once, each request until it is accepted."""

    def __init__(self, server, make_request):
        self.accepted = {}  # number of the submission -> the id that was answered
        self.refused = []
        self._server, self._make_request = server, make_request
        self._threads = [threading.Thread(target=self._submit, args=(first,)) for first in range(CLIENTS)]

    def _submit(self, first):
        with StillroomClient(self._server) as client:
            for number in range(first, SUBMISSIONS, CLIENTS):
                request, key = self._make_request(number=number), f"submission-{number}"
                while number not in self.accepted:
                    try:
                        self.accepted[number] = client.submit(request, key=key).id
                    except ServerUnreachableError:
                        time.sleep(0.05)
                    except Exception as error:  # told by the test, not lost in a thread
                        self.refused.append(error)
                        return

    def start(self):
        for thread in self._threads:
            thread.start()

    def join(self):
        for thread in self._threads:
            thread.join()


def _all_jobs(client):
    found, after = [], None
    while True:
        page = client.page(limit=MAX_PAGE, after=after)
        found.extend(page.compressions)
        if page.next is None:
            return found
        after = page.next


def test_of_a_thousand_submissions_none_is_lost_or_doubled_by_five_kills_and_twenty_run_once(
    tmp_path, database, make_request
):
    settings = {"storage": str(tmp_path / "storage"), "ray_address": NO_RAY}
    if isinstance(database, str):
        settings["database"] = database
    replica = Replica(tmp_path / "state", settings).start().wait_ready()
    try:
        crowd = Crowd(replica.url, make_request)
        crowd.start()
        for kill in range(1, KILLS + 1):
            wait_until(
                lambda kill=kill: crowd.refused or len(crowd.accepted) >= kill * SUBMISSIONS // (KILLS + 1),
                300, "accepting",
            )  # fmt: skip
            assert len(crowd.accepted) < SUBMISSIONS
            replica.kill()
            replica.start().wait_ready()
        crowd.join()
        assert crowd.refused == []

        with StillroomClient(replica.url) as client:
            jobs = _all_jobs(client)
            assert Counter(job.request["labels"]["number"] for job in jobs) == {str(n): 1 for n in range(SUBMISSIONS)}
            assert {int(job.request["labels"]["number"]): job.id for job in jobs} == crowd.accepted
            kept = {crowd.accepted[number] for number in range(RUN)}
            for job in jobs:
                if job.id not in kept:
                    assert client.cancel(job.id).status is JobStatus.CANCELLED
        replica.stop()

        storage = Storage.open(settings["storage"])
        with ray_beside(tmp_path / "ray") as (url, token):
            replica.settings |= {"ray_address": url, "ray_token": token, "max_running": "4", "claim_seconds": "3"}
            replica.start().wait_ready()
            with StillroomClient(replica.url) as client:
                wait_until(
                    lambda: sum(client.get(one).status is JobStatus.SUCCEEDED for one in kept) >= RUN // 4, 240, "five"
                )
                replica.kill()
                replica.start().wait_ready()
                wait_until(lambda: all(client.get(one).status.is_terminal for one in kept), 240, "twenty jobs")
                assert {client.get(one).status for one in kept} == {JobStatus.SUCCEEDED}
                assert len(_all_jobs(client)) == SUBMISSIONS
            assert [runs_of(storage, one) for one in kept] == [{1: 1}] * RUN
            assert len(storage.list("jobs")) == RUN
    finally:
        replica.stop()
