"""Common part of the routes of events: a page of events, or a stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Query, Response
from fastapi.responses import StreamingResponse

from services.api.dependencies import EventStreamsDep, ServiceDep, StillAllowedDep
from services.api.event_stream import HEADERS, MEDIA_TYPE, EventStreams, wants_stream
from services.api.schemas import EventPage
from services.jobs.records import Job
from services.service import Service

_PLACE = r"^[0-9]{1,9}-[0-9]{1,9}$"


@dataclass(frozen=True)
class _Given:
    accept: str
    last_event_id: str
    after: str
    limit: int


async def _given(
    accept: Annotated[str, Header()] = "",
    last_event_id: Annotated[str, Header(description="Like `after`; overrides it.", pattern=f"^$|{_PLACE}")] = "",
    after: Annotated[str, Query(description="`<attempt>-<sequence>`.", pattern=_PLACE)] = "0-0",
    limit: Annotated[int, Query(ge=1, le=1000, description="Most events on a page; a stream has no limit.")] = 200,
) -> _Given:
    return _Given(accept, last_event_id, after, limit)


class Events:
    """Answer with a job's events, in the form that the request asks for."""

    def __init__(
        self,
        service: ServiceDep,
        streams: EventStreamsDep,
        still_allowed: StillAllowedDep,
        given: Annotated[_Given, Depends(_given)],
    ) -> None:
        self._service: Service = service
        self._streams: EventStreams = streams
        self._still_allowed = still_allowed
        self._given = given

    def of(self, job: Job) -> EventPage | Response:
        """Answer with the events of a job."""
        given = self._given.last_event_id or self._given.after
        attempt, _, sequence = given.partition("-")
        start, log = (int(attempt), int(sequence)), self._service.events
        if not wants_stream(self._given.accept):
            limit = self._given.limit
            found = log.after(job, start, limit + 1)
            page = found[:limit]
            last = f"{page[-1].attempt}-{page[-1].sequence}" if page else given
            return EventPage(events=page, next=last if len(found) > limit else None, last=last)
        if self._given.last_event_id and job.status.is_terminal and not log.after(job, start, 1):
            return Response(status_code=204)  # a browser then stops reconnecting
        stream = self._streams.stream(job.id, start, self._still_allowed)
        return StreamingResponse(stream, media_type=MEDIA_TYPE, headers=HEADERS)


EventsDep = Annotated[Events, Depends(Events)]
