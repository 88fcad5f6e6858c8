"""Events as both clients follow them: each one once, also over broken connections."""

import asyncio
import threading
import time

import httpx
import pytest

from services.client import AsyncStillroomClient, place_of
from services.jobs.records import NewJob
from tests.services.clients import Answer, through
from tests.services.test_event_stream import Run
from workloads.spec.errors import InputError


@pytest.fixture
def ended(service, make_request):
    run = Run(service, service.store.create(NewJob(make_request())).id)
    run.begin()
    for message in ("one", "two", "three"):
        run.tell(message)
    run.end()
    return run.id


def test_events_come_each_once_whichever_client_follows(drive, client, ended):
    found = drive(client.server, lambda client: client.stream_events(ended))
    assert [place_of(event) for event in found] == ["1-1", "1-2", "1-3"]
    assert [e.message for e in drive(client.server, lambda client: client.stream_events(ended, "1-2"))] == ["three"]


def test_where_streams_do_not_come_through_events_are_asked_for(drive, script, client, service, make_request):
    run = Run(service, service.store.create(NewJob(make_request())).id)
    run.begin()
    run.tell("one")
    server = script(through(client.server, lambda answer: answer))  # it answers with JSON, whatever the request accepts

    def later():
        time.sleep(1.5)
        run.tell("two")
        run.end()

    ending = threading.Thread(target=later)
    ending.start()
    found = drive(server.url, lambda client: client.stream_events(run.id))
    ending.join()
    assert [event.message for event in found] == ["one", "two"]
    paths = [path.partition("?")[0] for _, path, _, _ in server.requests]
    assert paths.count(f"/v1/compressions/{run.id}") >= 2


def test_streams_that_say_nothing_are_given_up_for_asking(drive, script, client, ended):
    def silent(handler):
        if "text/event-stream" in handler.headers.get("Accept", ""):
            return Answer(200, b"", {"Content-Type": "text/event-stream"})
        return through(client.server, lambda answer: answer)(handler)

    server = script(silent)
    found = drive(server.url, lambda client: client.stream_events(ended, "1-1"))
    assert [event.message for event in found] == ["two", "three"]
    assert len(server.requests) == 4


def test_a_message_that_is_cut_off_is_neither_lost_nor_given_twice(drive, script, client, ended):
    whole = httpx.get(
        f"{client.server}/v1/compressions/{ended}/events", headers={"Accept": "text/event-stream"}
    ).content
    middle = whole.index(b'"two"')
    kind = {"Content-Type": "text/event-stream"}
    server = script(
        Answer(200, whole[:middle], kind), Answer(200, whole[:middle], kind, len(whole)), Answer(200, whole, kind)
    )
    found = drive(server.url, lambda client: client.stream_events(ended))
    assert [event.message for event in found] == ["one", "two", "three"]
    assert [headers["Last-Event-ID"] for _, _, headers, _ in server.requests] == ["0-0", "1-1", "1-1"]


def test_leaving_a_stream_early_closes_its_connection(client, service, make_request):
    run = Run(service, service.store.create(NewJob(make_request())).id)
    run.begin()
    run.tell("one")

    async def first():
        async with AsyncStillroomClient(client.server) as other:
            async for event in other.stream_events(run.id):
                return event.message
        return None

    stream = client.stream_events(run.id)
    assert next(stream).message == "one"
    stream.close()
    assert asyncio.run(asyncio.wait_for(first(), 10)) == "one"
    with pytest.raises(InputError, match="1-12"):
        next(client.stream_events(run.id, "x"))
