"""Metrics as Prometheus reads them, by its own parser."""

import httpx
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from services.jobs.records import AttemptEnd, NewJob
from services.jobs.states import AttemptStatus, JobStatus
from services.jobs.store import PREFIXES


@pytest.fixture
def scrape(client):
    def read():
        answer = httpx.get(f"{client.server}/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    return read


def _by(samples, name, *labels):
    found = {}
    for (sample, *given), value in samples.items():
        if sample == name:
            found[tuple(dict(given)[label] for label in labels)] = value
    return found


def _requests(samples, name="stillroom_http_requests_total"):
    return _by(samples, name, "route", "method", "status")


def test_jobs_and_attempts_are_counted_by_how_they_stand(scrape, service, make_request):
    store, work = service.store, service.work
    for _ in range(2):
        store.create(NewJob(make_request()))
    store.create(NewJob(make_request(), "plan"))
    job = work.begin_attempt(store.create(NewJob(make_request())).id)
    work.end_attempt(job.id, 1, AttemptEnd(AttemptStatus.LOST, "gone", JobStatus.QUEUED))
    work.begin_attempt(job.id)
    samples = scrape()
    told = _by(samples, "stillroom_jobs", "kind", "status")
    assert {at: value for at, value in told.items() if value} == {
        ("compression", "queued"): 2,
        ("compression", "running"): 1,
        ("plan", "queued"): 1,
    }
    assert len(told) == len(PREFIXES) * len(JobStatus)
    attempts = _by(samples, "stillroom_attempts", "outcome")
    assert attempts.keys() == {(outcome,) for outcome in AttemptStatus}
    assert {outcome: value for outcome, value in attempts.items() if value} == {("lost",): 1, ("starting",): 1}


def test_requests_are_counted_by_route_and_not_by_path(scrape, client, make_request):
    ids = [client.submit(make_request()).id for _ in range(2)]
    for job_id in ids:
        client.get(job_id)
    for path in ("/v1/compressions/cmp_no", "/nowhere/1", "/nowhere/2"):
        assert httpx.get(client.server + path).status_code == 404
    httpx.request("PROPFIND", f"{client.server}/nowhere/3")
    samples = scrape()
    expected = {
        ("/v1/compressions", "POST", "202"): 2,
        ("/v1/compressions/{job_id}", "GET", "200"): 2,
        ("/v1/compressions/{job_id}", "GET", "404"): 1,
        ("none", "GET", "404"): 2,
        ("none", "OTHER", "404"): 1,
    }
    assert _requests(samples) == expected
    assert _requests(samples, "stillroom_http_request_seconds_count") == expected
    assert _requests(scrape())["/metrics", "GET", "200"] == 1


def test_an_error_of_the_services_own_is_counted(scrape, client, service, monkeypatch):
    monkeypatch.setattr(service.store, "summaries", lambda *_, **__: 1 / 0)
    with structlog.testing.capture_logs():
        assert httpx.get(f"{client.server}/v1/compressions").status_code == 500
    assert _requests(scrape()) == {("/v1/compressions", "GET", "500"): 1}


def test_a_stream_is_counted_when_it_begins(scrape, client, make_request):
    job = client.submit(make_request())
    path = f"{client.server}/v1/compressions/{job.id}/events"
    with httpx.stream("GET", path, headers={"Accept": "text/event-stream"}) as answer:
        next(answer.iter_lines())
        assert _requests(scrape())["/v1/compressions/{job_id}/events", "GET", "200"] == 1
