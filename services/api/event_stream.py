"""Streams of a job's events, as server-sent events from any point until the job has ended.

Each client has its own generator, which polls at its own pace, so nothing is queued for a slow client. A few dedicated
threads read the events for all clients, so that many clients take no threads from other requests.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import structlog
from anyio import CapacityLimiter, sleep, to_thread

from services.api.negotiation import accepts
from services.jobs.documents import EventEntry
from services.jobs.rows import UnknownJobError
from services.jobs.states import JobStatus
from services.service import Service

MEDIA_TYPE = "text/event-stream"
HEARTBEAT_SECONDS = 15.0
"""Silence after which a comment is sent, so that proxies do not close the connection."""
RECONNECT_SECONDS = 2.0
"""Time after which a client should reconnect when its connection breaks."""
LOOK_SECONDS = 2.0
"""Longest poll interval, of the events and of the client's permission."""
READERS = 4

log = structlog.get_logger(__name__)


class _NotAllowedError(Exception):
    """The client has lost its permission to read."""


class EventStreams:
    """Maker of the streams of one application.

    Args:
        service: The service with the jobs.
        heartbeat_seconds: See :data:`HEARTBEAT_SECONDS`.
    """

    def __init__(self, service: Service, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        self._service = service
        self._heartbeat_seconds = heartbeat_seconds
        self._readers = CapacityLimiter(READERS)

    async def stream(
        self, job_id: str, after: tuple[int, int], still_allowed: Callable[[], bool] = lambda: True
    ) -> AsyncIterator[str]:
        """Yield the events after ``(attempt, sequence)`` as they happen, while the client may read them."""
        yield f"retry: {RECONNECT_SECONDS * 1000:.0f}\n\n"
        sent_at = time.monotonic()
        while True:
            try:
                status, found = await to_thread.run_sync(
                    self._read, job_id, after, still_allowed, limiter=self._readers
                )
            except (UnknownJobError, _NotAllowedError):  # the job was deleted, or the key was revoked
                return
            except OSError as error:  # the storage may answer again
                log.warning("events_not_read", job=job_id, error=str(error))
                status, found = None, []
            for event in found:
                yield _message(event)
                after = (event.attempt, event.sequence)
            if status is not None and status.is_terminal:
                yield f'event: end\ndata: {{"status": "{status}"}}\n\n'
                return
            if found:
                sent_at = time.monotonic()
            elif time.monotonic() - sent_at >= self._heartbeat_seconds:
                yield ": still here\n\n"
                sent_at = time.monotonic()
            await sleep(min(self._service.settings.poll_seconds, self._heartbeat_seconds, LOOK_SECONDS))

    def _read(
        self, job_id: str, after: tuple[int, int], still_allowed: Callable[[], bool]
    ) -> tuple[JobStatus, list[EventEntry]]:
        if not still_allowed():
            raise _NotAllowedError
        # Read the state first, so that no event before the job's end is missed.
        job = self._service.store.get(job_id)
        return job.status, self._service.events.after(job, after)


def _message(event: EventEntry) -> str:
    return f"id: {event.attempt}-{event.sequence}\ndata: {event.model_dump_json()}\n\n"


def wants_stream(accept: str) -> bool:
    """Whether an ``Accept`` header asks for a stream."""
    return accepts(accept, MEDIA_TYPE)


HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no", "Vary": "Accept"}
STREAM_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "With `Accept: text/event-stream` a stream, one message per event, until the job has ended.",
        "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
    },
    204: {"description": "The client of a stream has reconnected, and has all events of an ended job."},
}
