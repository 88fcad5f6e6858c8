"""Jobs' events, read from their folders once for all readers."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice

from services.jobs.documents import EventEntry
from services.jobs.records import Job
from workloads.documents.job_folder import JobFolder
from workloads.storage.storage import Storage

KEPT_EVENTS = 50_000
"""Most events kept in memory, about 2 KB each; those of the least recently read attempts go first."""

Place = tuple[int, int]
"""Numbers of an attempt and of one of its events."""


class EventLog:
    """Cache of the events of a storage's jobs.

    An attempt's file of events only grows at its end. So only the part that was added since the last read is read and
    parsed, for all readers together.

    Args:
        storage: The storage with the jobs' folders.
        kept: See :data:`KEPT_EVENTS`.
    """

    def __init__(self, storage: Storage, kept: int = KEPT_EVENTS) -> None:
        self._storage = storage
        self._kept = kept
        self._lock = threading.Lock()
        self._attempts: OrderedDict[tuple[str, int], _Attempt] = OrderedDict()

    def after(self, job: Job, place: Place = (0, 0), limit: int | None = None) -> list[EventEntry]:
        """List the events of all attempts after a place, oldest first, at most ``limit``."""
        return list(islice(self._after(job, place), limit))

    def _after(self, job: Job, place: Place) -> Iterator[EventEntry]:
        for attempt in job.attempts:
            if attempt.number >= place[0]:
                yield from self._of(job.id, attempt.number).after(place[1] if attempt.number == place[0] else 0)
                self._forget()

    def _of(self, job_id: str, number: int) -> _Attempt:
        with self._lock:
            found = self._attempts.setdefault((job_id, number), _Attempt(JobFolder(self._storage, job_id), number))
            self._attempts.move_to_end((job_id, number))
            return found

    def _forget(self) -> None:
        with self._lock:
            count = sum(one.count for one in self._attempts.values())
            while count > self._kept and len(self._attempts) > 1:
                count -= self._attempts.popitem(last=False)[1].count


class _Attempt:
    """Events of an attempt that were read so far."""

    def __init__(self, folder: JobFolder, number: int) -> None:
        self._folder = folder
        self._number = number
        self._lock = threading.Lock()
        self._events: list[EventEntry] = []
        self._bytes = 0

    @property
    def count(self) -> int:
        return len(self._events)

    def after(self, sequence: int) -> list[EventEntry]:
        with self._lock:
            more, self._bytes = self._folder.read_more_events(self._number, self._bytes)
            self._events += (EventEntry(attempt=self._number, **event.model_dump()) for event in more)
            return self._events[bisect_right(self._events, sequence, key=lambda event: event.sequence) :]
