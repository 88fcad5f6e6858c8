"""A job's events as a stream, against a real uvicorn."""

import asyncio
import json
import threading
import time

import httpx
import pytest

from services.api.event_stream import EventStreams, wants_stream
from services.client import ApiError
from services.jobs.records import AttemptEnd, NewJob
from services.jobs.states import AttemptStatus, JobStatus
from tests.services.conftest import wait_until
from workloads.documents.job_folder import EventDocument, JobFolder

STREAM = {"Accept": "text/event-stream"}


class Run:
    """Writes a job's events as a run does, and ends its attempts."""

    def __init__(self, service, job_id):
        self.store, self.work, self.id = service.store, service.work, job_id
        self._folder = JobFolder(service.storage, self.id)
        self._events = []

    def begin(self):
        self._events = []
        self.work.begin_attempt(self.id)

    def tell(self, message):
        number = len(self._events) + 1
        self._events.append(EventDocument(sequence=number, time="t", type="note", message=message))
        self._folder.write_events(self.store.get(self.id).attempt, self._events)

    def end(self, attempt=AttemptStatus.SUCCEEDED, job=JobStatus.SUCCEEDED):
        self.work.end_attempt(self.id, self.store.get(self.id).attempt, AttemptEnd(attempt, None, job))


@pytest.fixture
def run(service, make_request):
    run = Run(service, service.store.create(NewJob(make_request())).id)
    run.begin()
    return run


def _read(client, run, **headers):
    """The messages of a whole stream, as (id, data)."""
    messages, current = [], {}
    with httpx.stream("GET", f"{client.server}/v1/compressions/{run.id}/events", headers=STREAM | headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                current[name] = value
            elif "data" in current:
                messages.append((current.get("id", current.get("event")), json.loads(current["data"])))
                current = {}
    return messages


def test_events_come_as_they_happen_over_all_attempts_and_the_stream_ends_with_the_job(client, run):
    run.tell("one")
    heard = []
    listener = threading.Thread(target=lambda: heard.extend(_read(client, run)))
    told = []
    follower = threading.Thread(target=lambda: told.extend(client.stream_events(run.id)))
    listener.start()
    follower.start()
    wait_until(lambda: told, 10, "the first event")
    run.tell("two")
    run.end(AttemptStatus.LOST, JobStatus.QUEUED)
    run.begin()
    run.tell("three")
    wait_until(lambda: len(told) == 3, 10, "the third event")
    run.tell("four")
    run.end()
    for thread in (listener, follower):
        thread.join(10)
        assert not thread.is_alive()
    assert [(name, data.get("message")) for name, data in heard[:-1]] == [
        ("1-1", "one"), ("1-2", "two"), ("2-1", "three"), ("2-2", "four"),
    ]  # fmt: skip
    assert heard[-1] == ("end", {"status": "succeeded"})
    assert [event.message for event in told] == ["one", "two", "three", "four"]


def test_a_client_that_comes_back_gets_only_what_it_has_not_had(client, run):
    for message in ("one", "two", "three"):
        run.tell(message)
    run.end()
    assert [name for name, _ in _read(client, run)] == ["1-1", "1-2", "1-3", "end"]
    assert [name for name, _ in _read(client, run, **{"Last-Event-ID": "1-2"})] == ["1-3", "end"]
    path = f"{client.server}/v1/compressions/{run.id}/events"
    assert httpx.get(path, headers=STREAM | {"Last-Event-ID": "1-3"}).status_code == 204
    refused = httpx.get(path, headers=STREAM | {"Last-Event-ID": "x"})
    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
    assert [event.message for event in client.stream_events(run.id, "1-2")] == ["three"]
    assert list(client.stream_events(run.id, "1-3")) == []


def test_a_client_that_does_not_read_harms_neither_others_nor_requests(client, run):
    for number in range(40):
        run.tell(f"{number} " + "x" * 50_000)  # more than the sockets' buffers hold
    path = f"/v1/compressions/{run.id}/events"
    with httpx.Client(base_url=client.server) as slow, slow.stream("GET", path, headers=STREAM) as stalled:
        others = [threading.Thread(target=lambda: list(client.stream_events(run.id))) for _ in range(5)]
        for other in others:
            other.start()
        begun = time.monotonic()
        for _ in range(10):
            assert client.get(run.id).status == "running"
        assert time.monotonic() - begun < 5  # 10 answers; some ms each, on a busy machine too
        run.end()
        for other in others:
            other.join(20)
            assert not other.is_alive()
        received = [line for line in stalled.iter_lines() if line.startswith("id: ")]
    assert len(received) == 40


def test_a_silent_stream_beats_and_goes_on_when_the_storage_answers_again(service, run, monkeypatch):
    read = JobFolder.read_more_events
    answers = iter([OSError("away"), OSError("away")])

    def flaky(self, attempt, begin):
        error = next(answers, None)
        if error is not None:
            raise error
        return read(self, attempt, begin)

    monkeypatch.setattr(JobFolder, "read_more_events", flaky)

    async def listen():
        messages = []
        async for message in EventStreams(service, heartbeat_seconds=0.05).stream(run.id, (0, 0)):
            messages.append(message)
            if messages.count(": still here\n\n") == 4:
                break
        return messages

    messages = asyncio.run(asyncio.wait_for(listen(), 20))
    assert messages == ["retry: 2000\n\n"] + [": still here\n\n"] * 4


def test_a_stream_ends_when_its_job_is_deleted(service, run):
    async def listen():
        heard = []
        async for message in EventStreams(service).stream(run.id, (0, 0)):
            heard.append(message)
            if len(heard) == 2:
                run.end()
                service.store.delete(run.id, lambda _: None)
        return heard

    run.tell("one")
    assert len(asyncio.run(asyncio.wait_for(listen(), 20))) == 2


def test_a_stream_of_no_job_is_refused(client):
    with pytest.raises(ApiError) as refused:
        next(client.stream_events("cmp_no"))
    assert refused.value.problem.code == "not_found"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("text/event-stream", True),
        ("application/json, Text/Event-Stream;q=0.9", True),
        ("*/*", False),
        ("", False),
        ("application/json", False),
    ],
)
def test_a_stream_is_given_to_those_who_ask_for_it(accept, wanted):
    assert wants_stream(accept) is wanted
