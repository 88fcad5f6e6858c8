"""Events as pages, and the log that reads them once for all."""

import time

import pytest

from services.jobs.events import EventLog
from services.jobs.records import NewJob
from workloads.documents.job_folder import EventDocument, JobFolder
from workloads.storage.storage import Storage


def _events(count):
    return [EventDocument(sequence=n, time="t", type="note", message=f"{n}") for n in range(1, count + 1)]


@pytest.fixture
def job(service, make_request):
    """A running job with 5 events at its first attempt."""
    job = service.work.begin_attempt(service.store.create(NewJob(make_request())).id)
    JobFolder(service.storage, job.id).write_events(1, _events(5))
    return job


def test_events_come_page_by_page_and_the_end_is_told(client, service, job):
    first = client.events(job.id, limit=3)
    assert ([one.message for one in first.events], first.next, first.last) == (["1", "2", "3"], "1-3", "1-3")
    second = client.events(job.id, first.next, limit=2)
    assert ([one.message for one in second.events], second.next, second.last) == (["4", "5"], None, "1-5")
    nothing = client.events(job.id, second.last)
    assert (nothing.events, nothing.next, nothing.last) == ([], None, "1-5")
    JobFolder(service.storage, job.id).write_events(1, _events(6))
    assert [one.message for one in client.events(job.id, nothing.last).events] == ["6"]


def test_all_pages_are_given_one_after_the_other(client, job, monkeypatch):
    monkeypatch.setattr("services.client.following.PAGE", 2)
    assert [one.message for one in client.past_events(job.id, "1-1")] == ["2", "3", "4", "5"]


def test_what_was_read_is_not_read_again(service, job, monkeypatch):
    read, stream = [], Storage.stream

    def counting(self, *args, **kwargs):
        for piece in stream(self, *args, **kwargs):
            read.append(len(piece))
            yield piece

    monkeypatch.setattr(Storage, "stream", counting)
    log = EventLog(service.storage)
    assert len(log.after(job)) == 5
    size = sum(read)
    assert [one.sequence for one in log.after(job, (1, 3))] == [4, 5]
    assert [one.sequence for one in log.after(job, (1, 1), 2)] == [2, 3]
    assert sum(read) == size > 0
    JobFolder(service.storage, job.id).write_events(1, _events(6))
    assert [one.sequence for one in log.after(job, (1, 5))] == [6]
    assert sum(read) == service.storage.size(f"jobs/{job.id}/attempts/1/events.jsonl")


def test_a_look_at_many_events_that_are_known_costs_next_to_nothing(service, job):
    JobFolder(service.storage, job.id).write_events(1, _events(20_000))
    log = EventLog(service.storage)
    begun = time.process_time()
    log.after(job)
    parsing, begun = time.process_time() - begun, time.process_time()
    assert log.after(job, (1, 20_000)) == []
    assert time.process_time() - begun < parsing / 20


def test_events_of_jobs_that_nobody_asks_for_any_more_are_let_go(service, make_request):
    log = EventLog(service.storage, kept=8)
    jobs = [service.work.begin_attempt(service.store.create(NewJob(make_request())).id) for _ in range(4)]
    for job in jobs:
        JobFolder(service.storage, job.id).write_events(1, _events(5))
        assert len(log.after(job)) == 5
    assert sum(one.count for one in log._attempts.values()) <= 8
    assert len(log.after(jobs[0])) == 5
