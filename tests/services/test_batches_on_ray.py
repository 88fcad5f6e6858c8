"""A batch over HTTP on a real embedded Ray; the runs are scripted_run.py's."""

import csv
import io
import os

import httpx
import pytest

from services.service import Service
from services.settings import load_settings
from tests.services.conftest import HERE, RUN_MODULE, serving, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow]

MAX_RUNNING = 2


@pytest.fixture(scope="module")
def http(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
        settings = load_settings(
            storage=str(tmp_path_factory.mktemp("batches")), run_module=RUN_MODULE, max_running=6, backoff_seconds=0.2,
            ray_cpus=2, ray_object_store_bytes=100 << 20,
        )  # fmt: skip
        service = Service(settings)
        service.start()
        try:
            wait_until(service.cluster.jobs, 120, "starting Ray")
            with serving(service) as client, httpx.Client(base_url=client.server) as http:
                yield http
        finally:
            service.close()


@pytest.fixture(scope="module")
def batch(http, make_request):
    """An ended batch of four with one failure, and all of its observed states."""
    common = make_request(seconds=1)
    del common["teacher"]
    items = [{"teacher": {"model": f"someone/{n}"}} for n in range(4)]
    items[1]["labels"] = {"act": "invalid", "good_attempt": "2", "seconds": "0"}
    made = http.post("/v1/batches", json={"common": common, "compressions": items, "max_running": MAX_RUNNING})
    assert made.status_code == 202
    seen = _follow(http, made.headers["location"])
    return {"url": made.headers["location"], "seen": seen, "ids": [one["id"] for one in seen[-1]["compressions"]]}


def _follow(http, url):
    """Collect the states of a batch until its end."""
    seen = []

    def ended():
        seen.append(http.get(url).json())
        return seen[-1]["finished_at"] is not None

    wait_until(ended, 240, "the batch")
    return seen


def _attempts(http, job_id):
    return http.get(f"/v1/compressions/{job_id}").json()["attempts"]


def _rows(table):
    return {(row["teacher"], row["outcome"], row["budget"]) for row in table["results"]}


ALL = {("student", "edge"), ("infeasible", "impossible")}


def test_never_more_of_a_batch_run_at_once_than_it_says(http, batch):
    for state in batch["seen"]:
        assert state["counts"].get("running", 0) <= MAX_RUNNING
    times = [one for job_id in batch["ids"] for one in _attempts(http, job_id)]
    changes = [(one["started_at"], 1) for one in times] + [(one["finished_at"], -1) for one in times]
    running = [sum(change for time, change in changes if time <= at) for at, _ in changes]
    assert max(running) == MAX_RUNNING


def test_one_that_fails_is_told_and_stops_no_other(http, batch):
    last = batch["seen"][-1]
    assert (last["status"], last["counts"]) == ("partial", {"succeeded": 3, "failed": 1})
    assert [one["status"] for one in last["compressions"]] == ["succeeded", "failed", "succeeded", "succeeded"]
    assert last["compressions"][1]["reason"] == "It is invalid."
    table = http.get(f"{batch['url']}/results").json()
    assert _rows(table) == {(f"someone/{n}", *one) for n in (0, 2, 3) for one in ALL}
    assert table["unanswered"] == [{"compression": batch["ids"][1], "teacher": "someone/1", "status": "failed"}]


def test_a_retry_runs_the_failed_one_alone_and_completes_the_table(http, batch):
    before = {job_id: _attempts(http, job_id) for job_id in batch["ids"]}
    assert http.post(f"{batch['url']}/retry").json()["status"] == "running"
    assert _follow(http, batch["url"])[-1]["status"] == "succeeded"
    after = {job_id: _attempts(http, job_id) for job_id in batch["ids"]}
    failed = batch["ids"][1]
    assert {job_id for job_id in batch["ids"] if after[job_id] != before[job_id]} == {failed}
    assert [one["status"] for one in after[failed]] == ["failed", "succeeded"]

    table = http.get(f"{batch['url']}/results").json()
    assert table["unanswered"] == []
    assert _rows(table) == {(f"someone/{n}", *one) for n in range(4) for one in ALL}
    text = http.get(f"{batch['url']}/results", headers={"Accept": "text/csv"}).text
    read = {(row["teacher"], row["outcome"], row["budget"]) for row in csv.DictReader(io.StringIO(text))}
    assert read == _rows(table)


def test_a_batch_is_cancelled_while_some_run_and_some_wait(http, make_request):
    body = {"common": make_request(act="hang"), "compressions": [{"seed": n} for n in range(3)], "max_running": 1}
    url = http.post("/v1/batches", json=body).headers["location"]
    wait_until(lambda: http.get(url).json()["counts"].get("running"), 60, "the first to begin")
    http.post(f"{url}/cancel")
    last = _follow(http, url)[-1]
    assert (last["status"], last["counts"]) == ("cancelled", {"cancelled": 3})
    assert sorted(one["attempt"] for one in last["compressions"]) == [0, 0, 1]
    assert http.delete(url).status_code == 204
