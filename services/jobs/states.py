"""The states of a job and of an attempt, and which may follow which."""

from __future__ import annotations

from enum import StrEnum

LOCAL_TENANT = "local"
"""Tenant of whoever is asked for no key."""


class JobStatus(StrEnum):
    """State of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing follows by itself any more."""
        return not _FOLLOWS[self]

    @property
    def may_be_resumed(self) -> bool:
        """Whether a person may send it back to the queue."""
        return self in {JobStatus.FAILED, JobStatus.CANCELLED}

    def may_become(self, other: JobStatus) -> bool:
        """Whether ``other`` may follow."""
        return other in _FOLLOWS[self]


# A run that died goes back to the queue, and from there to its next attempt.
_FOLLOWS: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.CANCELLED}),
    JobStatus.RUNNING: frozenset({JobStatus.QUEUED, JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLING}),
    JobStatus.CANCELLING: frozenset({JobStatus.CANCELLED}),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}


class AttemptStatus(StrEnum):
    """State of an attempt.

    The service's own stop has ended one that is ``interrupted``; Ray died under one that is ``ray_lost``.
    """

    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    RAY_LOST = "ray_lost"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether the attempt has ended."""
        return self not in {AttemptStatus.STARTING, AttemptStatus.RUNNING}

    @property
    def counts_as_failure(self) -> bool:
        """Whether it uses up one of the attempts that a job may fail."""
        return self in {AttemptStatus.FAILED, AttemptStatus.LOST}


class BatchStatus(StrEnum):
    """State of a batch."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    EMPTY = "empty"

    @classmethod
    def of(cls, present: frozenset[JobStatus]) -> BatchStatus:
        """The state of a batch whose jobs are in these states.

        It is queued before any job has begun, then running until all have ended, then partial where only some have
        succeeded. A batch without jobs, all deleted, is empty.
        """
        if not present:
            return cls.EMPTY
        unfinished = {status for status in present if not status.is_terminal}
        if unfinished:
            if unfinished == {JobStatus.CANCELLING}:
                return cls.CANCELLING
            return cls.QUEUED if present == {JobStatus.QUEUED} else cls.RUNNING
        if present == {JobStatus.SUCCEEDED}:
            return cls.SUCCEEDED
        if JobStatus.SUCCEEDED in present:
            return cls.PARTIAL
        return cls.FAILED if JobStatus.FAILED in present else cls.CANCELLED
