"""A job's events as they happen, whatever becomes of the connection meanwhile."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import httpx

from services.api.schemas import EventPage
from services.client.call import Call
from services.client.calls import Calls
from services.client.connection import Connection, Message
from services.client.shared import SharedStream, Side
from services.jobs.documents import EventEntry
from workloads.spec.errors import InputError

STREAM = "text/event-stream"
SILENCE_SECONDS = 45.0
"""Silence after which a stream is taken for broken; the service says something every 15 s."""
BARREN_STREAMS = 2
"""After so many streams in a row that say nothing, something in between holds them up."""
RECONNECT_SECONDS = 0.5
POLL_SECONDS = 1.0
PAGE = 1000

_Place = tuple[int, int]
_CALLS: dict[str, tuple[Call[[str], Any], Call[..., EventPage]]] = {
    "sel": (Calls.selection, Calls.selection_events),
    "pln": (Calls.planned, Calls.plan_events),
    "evl": (Calls.evaluation, Calls.evaluation_events),
}
"""By the beginnings of ids; all others are compressions'."""


def place_of(event: EventEntry) -> str:
    """What to give as ``after`` to get what comes after an event."""
    return f"{event.attempt}-{event.sequence}"


class Following(Side):
    """Following events."""

    @SharedStream
    async def stream_events(self, job_id: str, after: str = "0-0") -> AsyncGenerator[EventEntry, None]:
        """Give the events of a job of any kind as they come, each once, until it has ended.

        A connection that breaks is made again and goes on after the last event; a server that is away is waited for
        with the client's patience. Where streams do not come through, the events are asked for, again and again.

        Raises:
            ApiError: There is no such job, or no longer.
            InputError: ``after`` is no event's place.
            ServerUnreachableError: There is no answer.
        """
        async with aclosing(_followed(self._connection, *_calls_of(job_id), job_id, after)) as events:
            async for event in events:
                yield event

    @SharedStream
    async def past_events(self, job_id: str, after: str = "0-0") -> AsyncGenerator[EventEntry, None]:
        """Give the events of a job of any kind that there are by now, a page at a time.

        Raises:
            ApiError: There is no such job, or ``after`` is no event's place.
            ServerUnreachableError: There is no answer.
        """
        async with aclosing(_past(self._connection, _calls_of(job_id)[1], job_id, after)) as events:
            async for event in events:
                yield event


async def _followed(
    connection: Connection, read: Call[[str], Any], page: Call[..., EventPage], job_id: str, after: str
) -> AsyncGenerator[EventEntry, None]:
    """Follow a job that is read by one call, and its events by another."""
    last, barren = _place(after), 0
    while barren < BARREN_STREAMS:
        barren += 1
        try:
            async with connection.open(_message(page, job_id, last), SILENCE_SECONDS) as answer:
                if answer.status_code == httpx.codes.NO_CONTENT:
                    return
                if not answer.headers.get("Content-Type", "").startswith(STREAM):
                    break
                fields: dict[str, str] = {}
                async for line in connection.wire.lines(answer):
                    barren = 0
                    name, _, value = line.partition(": ")
                    if line:
                        fields[name] = value
                    elif fields.get("event") == "end":
                        return
                    else:  # the end of a message; one that was cut off never gets here
                        event = EventEntry.model_validate_json(fields["data"]) if "data" in fields else None
                        fields = {}
                        if event is not None and (event.attempt, event.sequence) > last:
                            last = event.attempt, event.sequence
                            yield event
        except httpx.TransportError:
            pass  # it was there a moment ago; whether it still is, the next connection tells
        await connection.wire.pause(RECONNECT_SECONDS)
    async for event in _asked_for(connection, read, page, job_id, last):
        yield event


async def _asked_for(
    connection: Connection, read: Call[[str], Any], page: Call[..., EventPage], job_id: str, last: _Place
) -> AsyncGenerator[EventEntry, None]:
    while True:
        job = await read.ask(connection, job_id)  # the state first: what is written before a job ends is then seen
        async for event in _past(connection, page, job_id, "{}-{}".format(*last)):
            last = event.attempt, event.sequence
            yield event
        if job.status.is_terminal:
            return
        await connection.wire.pause(POLL_SECONDS)


async def _past(
    connection: Connection, page: Call[..., EventPage], job_id: str, after: str | None
) -> AsyncGenerator[EventEntry, None]:
    while after is not None:
        found = await page.ask(connection, job_id, after, limit=PAGE)
        for event in found.events:
            yield event
        after = found.next


def _calls_of(job_id: str) -> tuple[Call[[str], Any], Call[..., EventPage]]:
    """What reads a job, and what reads its events."""
    return _CALLS.get(job_id.partition("_")[0], (Calls.get, Calls.events))


def _message(page: Call[..., EventPage], job_id: str, last: _Place) -> Message:
    headers = {"Accept": STREAM, "Last-Event-ID": "{}-{}".format(*last)}
    return replace(page.message(job_id, "{}-{}".format(*last)), query={}, headers=headers)


def _place(after: str) -> _Place:
    match = re.fullmatch(r"(\d{1,9})-(\d{1,9})", after)
    if match is None:
        raise InputError.of("after", f"{after!r} is no event's place.", "Give <attempt>-<number>, such as 1-12.")
    return int(match[1]), int(match[2])
