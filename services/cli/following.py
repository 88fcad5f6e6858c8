"""Following of a server's job until it ends, and lists of its events."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING

import typer

from services.cli.kinds import BATCH, Kind, kind_of
from services.cli.progress_view import ProgressView, event_line
from services.cli.reports import exit_code, print_document, tell_error
from services.cli.waiting import Looks, starting, wait_for_batch, waiting, warn
from services.client import ApiError, AsyncStillroomClient, ServerUnreachableError, StillroomClient, place_of

if TYPE_CHECKING:
    from services.cli.kinds import Document, Steps


@dataclass
class Place:
    """Position in a job's events."""

    after: str


def watch(server: str, thing: str, *, after: str, patience: float | None, json: bool) -> int:
    """Show a job or a batch until it ends, then its outcome; as JSON, a line per event and one for the outcome.

    Returns:
        The exit code: 0 if it succeeded, else 1.
    """
    kind = kind_of(thing)
    found: Document
    if kind is BATCH:
        with StillroomClient(server) as client, waiting(f"stillroom watch {thing}"):
            found = wait_for_batch(client, thing, patience)
    else:
        with going_on(f"stillroom watch {thing}", after) as place:
            found = asyncio.run(_follow(server, thing, kind, place, patience, json=json))
    if json:
        typer.echo(document_line(kind, found))
        tell_error(getattr(found, "error", None))
    else:
        print_document(found)
    return exit_code(found)


def document_line(kind: Kind, document: Document) -> str:
    """Format a document as a JSON line."""
    return f'{{"{kind.name}": {document.model_dump_json()}}}'


def show_events(server: str, job_id: str, after: str, *, follow: bool, patience: float | None, json: bool) -> None:
    """Print a job's events, one per line: those so far, or all as they happen."""
    with StillroomClient(server) as client:
        past = client.past_events(job_id, after)
        with starting(client, patience, warn):
            first = list(islice(past, 1))
        events = client.stream_events(job_id, after) if follow else chain(first, past)
        with going_on(f"stillroom events {job_id} --follow", after) as place:
            for event in events:
                typer.echo(event.model_dump_json() if json else event_line(event))
                place.after = place_of(event)


@contextmanager
def going_on(command: str, after: str) -> Iterator[Place]:
    """Print how to continue if following fails or is interrupted."""
    place = Place(after)
    try:
        yield place
    except (KeyboardInterrupt, ServerUnreachableError):
        warn(f"The server's work goes on. To follow it again: {command} --after {place.after}")
        raise


async def _follow(server: str, job_id: str, kind: Kind, place: Place, patience: float | None, *, json: bool) -> Steps:
    async with AsyncStillroomClient(server) as client:
        with ProgressView() as view:
            with starting(client, patience, view.away):
                await kind.call(client, "read", job_id)  # report an unknown job at once
            looking = asyncio.create_task(_look(client, kind, job_id, view))
            try:
                async for event in client.stream_events(job_id, place.after):
                    if json:
                        typer.echo(f'{{"event": {event.model_dump_json()}}}')
                    view.tell(event)
                    place.after = place_of(event)
            finally:
                looking.cancel()
            job: Steps = await kind.call(client, "read", job_id)
            view.show(job)
            return job


async def _look(client: AsyncStillroomClient, kind: Kind, job_id: str, view: ProgressView) -> None:
    looks = Looks()
    with suppress(ApiError, ServerUnreachableError):  # following the events meets the same errors and reports them
        while True:
            view.show(await kind.call(client, "read", job_id))
            await asyncio.sleep(looks.pause)
