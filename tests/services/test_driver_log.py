"""The driver's log: its end is read with limits, from Ray or from the saved file, with secrets masked."""

import json
from functools import partial

import pytest
from typer.testing import CliRunner

from services.cli.main import app
from services.client import ApiError
from services.embedded.cluster import Readiness
from services.jobs import ray_jobs
from services.jobs.driver_log import MOST_CHARACTERS, read_log
from services.jobs.ray_jobs import RayJobs, RayUnreachableError
from services.jobs.records import NewJob
from tests.services.clients import Answer


class Ray:
    """Has a log for each submission that it knows."""

    def __init__(self, **logs):
        self.logs = logs

    def log_tail(self, submission_id):
        return self.logs.get(submission_id)


@pytest.fixture
def ray(service, monkeypatch):
    """A Ray that only logs are read from; for all else the service has none."""
    ray = Ray()
    monkeypatch.setattr(
        "services.service.read_log", lambda job, number, lines, storage, _: read_log(job, number, lines, storage, ray)
    )
    return ray


def _refused(ask, status, code, *texts):
    with pytest.raises(ApiError) as caught:
        ask()
    assert (caught.value.problem.status, caught.value.problem.code) == (status, code)
    for text in texts:
        assert text in str(caught.value)


def test_the_log_of_a_running_attempt_comes_from_ray_masked_and_bounded(client, service, ray, make_request):
    job = service.work.begin_attempt(service.submit(make_request()).id)
    ray.logs[job.latest.submission_id] = "".join(f"line {n} token=abcdef\n" for n in range(3000))
    assert client.log(job.id, lines=2) == b"line 2998 token=***\nline 2999 token=***\n"
    assert client.log(job.id).count(b"\n") == 200
    ray.logs[job.latest.submission_id] = "wide " * 100_000 + "\nlast\n"
    assert client.log(job.id) == b"last\n"
    ray.logs[job.latest.submission_id] = "x" * 500_000
    assert len(client.log(job.id)) == MOST_CHARACTERS
    ray.logs[job.latest.submission_id] = ""
    assert client.log(job.id) == b""
    for wrong in ({"lines": 0}, {"lines": 2001}, {"attempt": 0}, {"attempt": 10**40}):
        _refused(lambda wrong=wrong: client.log(job.id, **wrong), 422, "invalid_parameter")


def test_the_log_of_an_ended_attempt_is_what_was_kept_or_what_ray_still_has(client, service, ray, finished_job):
    job = finished_job
    service.storage.write_bytes(f"jobs/{job.id}/attempts/1/driver.log", b"kept \xff password=abcdef\n")
    assert client.log(job.id, attempt=1).decode() == "kept \ufffd password=***\n"
    _refused(lambda: client.log(job.id), 404, "not_found", f"no log of attempt 2 of {job.id}")
    ray.logs[job.latest.submission_id] = "still there\n"
    assert client.log(job.id) == b"still there\n"
    _refused(lambda: client.log(job.id, attempt=3), 404, "not_found", "no attempt 3; the latest is 2")


def test_without_ray_only_what_was_kept_is_there(client, service, finished_job, make_request, monkeypatch):
    monkeypatch.setattr(service.cluster, "jobs", lambda: None)
    monkeypatch.setattr(service.cluster, "readiness", lambda: Readiness("unavailable", "Its process has ended."))
    service.storage.write_bytes(f"jobs/{finished_job.id}/attempts/1/driver.log", b"kept\n")
    assert client.log(finished_job.id, attempt=1) == b"kept\n"
    _refused(lambda: client.log(finished_job.id), 503, "ray_unavailable", "attempt 2", "Its process has ended.")
    waiting = service.submit(make_request(other=1))
    _refused(lambda: client.log(waiting.id), 404, "not_found", "has not been started")


def test_every_kind_of_job_has_a_log(client, service, ray, make_request):
    parent = service.submit(make_request())
    asks = {"selection": client.log_selection, "plan": client.log_plan, "evaluation": client.log_evaluation}
    for kind, ask in asks.items():
        job = service.work.begin_attempt(service.store.create(NewJob({}, kind, parent=parent.id)).id)
        ray.logs[job.latest.submission_id] = f"{kind}\n"
        assert ask(job.id).decode() == f"{kind}\n"


def _log(text):
    return Answer(body=json.dumps({"logs": text}).encode())


def test_rays_answer_is_read_to_its_end_with_a_bound(script, monkeypatch):
    monkeypatch.setattr(ray_jobs, "_LOG_BYTES", 1000)
    said = {
        "short": "one\ntwo \u00e9\n",
        "long": "".join(f'"{n}" \\ \u00e9\U0001f600\n' for n in range(2000)),
        "escapes": "\U0001f600" * 5000,
        "backslashes": "\\" * 5001,
        "half": "a\udc80b",
    }
    for text in said.values():
        with RayJobs(script(_log(text)).url, None) as ray:
            found = ray.log_tail("x")
        text = text.replace("\udc80", "?")
        assert len(found) <= 2100
        if len(text) < 100:
            assert found == text
        else:  # the first signs may have been cut within an escape
            assert len(found) > 80
            assert text.endswith(found[12:])
    with RayJobs(script(Answer(404, b"no")).url, None) as ray:
        assert ray.log_tail("x") is None
    for answer in (
        Answer(body=b"<html>" * 1000),
        Answer(500, b"trouble" * 1000),
        Answer(body=b"[]"),
        Answer(body=b"x"),
    ):
        with RayJobs(script(answer).url, None) as ray, pytest.raises(RayUnreachableError):
            ray.log_tail("x")


def test_a_log_that_trickles_in_is_given_up(script, monkeypatch):
    with RayJobs(script(_log("x")).url, None) as ray:
        monkeypatch.setattr(ray_jobs, "_CALL_SECONDS", -1)
        with pytest.raises(RayUnreachableError, match="takes too long"):
            ray.log_tail("x")


def test_the_command_line_prints_the_log(client, service, finished_job):
    service.storage.write_bytes(f"jobs/{finished_job.id}/attempts/1/driver.log", b"one\ntwo\n")
    run = partial(CliRunner().invoke, app)
    server = ("--server", client.server)
    assert run(["log", finished_job.id, "--attempt", "1", "--lines", "1", *server]).stdout == "two\n"
    assert json.loads(run(["log", finished_job.id, "--attempt", "1", "--json", *server]).stdout) == {
        "log": "one\ntwo\n"
    }
    unknown = run(["log", finished_job.id, "--attempt", "3", *server])
    assert (unknown.exit_code, "no attempt 3" in unknown.stderr) == (3, True)
    assert "no log of its own" in run(["log", "bat_1", *server]).stderr
