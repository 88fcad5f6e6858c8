"""Following of a job's events as they happen, also over broken connections."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import anyio
import httpx
from pydantic import ValidationError

from services.api.schemas import EventPage
from services.client.call import Call
from services.client.calls import Calls
from services.client.connection import Connection, Message
from services.client.errors import ApiError, not_understood
from services.client.shared import SharedStream, Side
from services.jobs.documents import EventEntry
from workloads.spec.errors import InputError

STREAM = "text/event-stream"
SILENCE_SECONDS = 45.0
"""Silence after which a stream counts as broken; the service sends a heartbeat every 15 s."""
BARREN_STREAMS = 2
"""Number of short streams without events in a row after which a proxy probably blocks streams."""
LASTING_SECONDS = 10.0
"""Duration after which a stream counts as working, even without events."""
LOOK_SECONDS = 60.0
"""Time without events after which the job's state is read, since its end may have been missed."""
RECONNECT_SECONDS = 0.5
POLL_SECONDS = 1.0
PAGE = 1000
MAX_LINE_BYTES = 4 << 20
MAX_FIELDS = 100

_Place = tuple[int, int]
_CALLS: dict[str, tuple[Call[[str], Any], Call[..., EventPage]]] = {
    "sel": (Calls.selection, Calls.selection_events),
    "pln": (Calls.planned, Calls.plan_events),
    "evl": (Calls.evaluation, Calls.evaluation_events),
}
"""Calls by the prefix of an id; all other ids are of compressions."""


def place_of(event: EventEntry) -> str:
    """Return the value of ``after`` that asks for the events after this one."""
    return f"{event.attempt}-{event.sequence}"


class Following(Side):
    """Following of events, for both clients."""

    @SharedStream
    async def stream_events(self, job_id: str, after: str = "0-0") -> AsyncGenerator[EventEntry, None]:
        """Yield the events of a job of any kind as they happen, each once, until the job has ended.

        A broken connection is opened again after the last event. Unreachable servers are retried with the client's
        patience. If streams are blocked, the events are polled.

        Raises:
            ApiError: There is no such job, or it was deleted.
            InputError: ``after`` is not the place of an event.
            ServerUnreachableError: There is no answer.
        """
        async with aclosing(_followed(self._connection, *_calls_of(job_id), job_id, after)) as events:
            async for event in events:
                yield event

    @SharedStream
    async def past_events(self, job_id: str, after: str = "0-0") -> AsyncGenerator[EventEntry, None]:
        """Yield the events of a job of any kind so far, a page at a time.

        Raises:
            ApiError: There is no such job, or ``after`` is not the place of an event.
            ServerUnreachableError: There is no answer.
        """
        async with aclosing(_past(self._connection, _calls_of(job_id)[1], job_id, after)) as events:
            async for event in events:
                yield event


async def _followed(
    connection: Connection, read: Call[[str], Any], page: Call[..., EventPage], job_id: str, after: str
) -> AsyncGenerator[EventEntry, None]:
    """Follow a job, with one call that reads it and another that reads its events."""
    last, barren = _place(after), 0
    while barren < BARREN_STREAMS:
        barren += 1
        began = looked = time.monotonic()
        try:
            async with connection.open(_message(page, job_id, last), SILENCE_SECONDS) as answer:
                if answer.status_code == httpx.codes.NO_CONTENT:
                    return
                if not answer.headers.get("Content-Type", "").startswith(STREAM):
                    break
                async for fields in _messages(connection, answer):
                    if fields.get("event") == "end":
                        return
                    now = time.monotonic()
                    event = _event(connection, fields["data"]) if "data" in fields else None
                    if event is not None and (event.attempt, event.sequence) > last:
                        last, barren, looked = (event.attempt, event.sequence), 0, now
                        yield event
                    elif now - looked > LOOK_SECONDS:
                        looked = now
                        if (await read.ask(connection, job_id)).status.is_terminal:
                            barren = BARREN_STREAMS
                            break
        except httpx.TransportError:
            pass  # it existed a moment ago; the next connection shows whether it still does
        if barren < BARREN_STREAMS and time.monotonic() - began > LASTING_SECONDS:
            barren = 0
        if barren < BARREN_STREAMS:
            await anyio.sleep(RECONNECT_SECONDS)
    async for event in _asked_for(connection, read, page, job_id, last):
        yield event


async def _messages(connection: Connection, answer: httpx.Response) -> AsyncGenerator[dict[str, str], None]:
    """Yield the messages of an event stream; a comment is one without fields. A truncated message is left out."""
    fields: dict[str, str] = {}
    async for line in _lines(connection, answer):
        name, _, value = line.partition(":")
        if name:
            fields[name] = value.removeprefix(" ")
            if len(fields) > MAX_FIELDS:
                raise _garbage(connection, f"a message of its event stream has more than {MAX_FIELDS} fields")
        elif line:
            yield {}
        elif fields:
            yield fields
            fields = {}


async def _lines(connection: Connection, answer: httpx.Response) -> AsyncGenerator[str, None]:
    rest = b""
    async for piece in answer.aiter_bytes():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r").decode(errors="replace")
        if len(rest) > MAX_LINE_BYTES:
            raise _garbage(connection, f"a line of its event stream is longer than {MAX_LINE_BYTES >> 20} MiB")


def _event(connection: Connection, data: str) -> EventEntry:
    try:
        return EventEntry.model_validate_json(data)
    except ValidationError as error:
        reason = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise _garbage(connection, f"its event stream holds something that is not an event ({reason})") from None


def _garbage(connection: Connection, reason: str) -> ApiError:
    return not_understood(connection.server, "GET", "a job's events", reason)


async def _asked_for(
    connection: Connection, read: Call[[str], Any], page: Call[..., EventPage], job_id: str, last: _Place
) -> AsyncGenerator[EventEntry, None]:
    while True:
        job = await read.ask(connection, job_id)  # the state first, so that a job's last events are seen
        async for event in _past(connection, page, job_id, "{}-{}".format(*last)):
            last = event.attempt, event.sequence
            yield event
        if job.status.is_terminal:
            return
        await anyio.sleep(POLL_SECONDS)


async def _past(
    connection: Connection, page: Call[..., EventPage], job_id: str, after: str
) -> AsyncGenerator[EventEntry, None]:
    following: str | None = after
    last = (-1, -1)
    while following is not None:
        found = await page.ask(connection, job_id, following, limit=PAGE)
        before = last
        for event in found.events:
            if (event.attempt, event.sequence) > last:
                last = event.attempt, event.sequence
                yield event
        following = found.next
        if following is not None and last == before:
            raise _garbage(connection, "its pages of events lead in a circle")


def _calls_of(job_id: str) -> tuple[Call[[str], Any], Call[..., EventPage]]:
    """Find the calls that read a job and its events, by the beginning of its id."""
    return _CALLS.get(job_id.partition("_")[0], (Calls.get, Calls.events))


def _message(page: Call[..., EventPage], job_id: str, last: _Place) -> Message:
    headers = {"Accept": STREAM, "Last-Event-ID": "{}-{}".format(*last)}
    return replace(page.message(job_id, "{}-{}".format(*last)), query={}, headers=headers)


def _place(after: str) -> _Place:
    match = re.fullmatch(r"(\d{1,9})-(\d{1,9})", after)
    if match is None:
        raise InputError.of(
            "after", f"{after!r} is not the place of an event.", "Give <attempt>-<number>, such as 1-12."
        )
    return int(match[1]), int(match[2])
