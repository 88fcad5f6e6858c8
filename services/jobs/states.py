"""States of jobs, attempts and batches, and the allowed transitions."""

from __future__ import annotations

from enum import StrEnum

LOCAL_TENANT = "local"
"""Tenant of callers without a key, if the service requires none."""


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
        """Whether the job has ended; only a person can resume it."""
        return not _FOLLOWS[self]

    @property
    def may_be_resumed(self) -> bool:
        """Whether a person may queue the job again."""
        return self in {JobStatus.FAILED, JobStatus.CANCELLED}

    def may_become(self, other: JobStatus) -> bool:
        """Whether ``other`` may follow this state."""
        return other in _FOLLOWS[self]


# After a run has died, its job returns to the queue and gets another attempt.
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

    ``interrupted``: the stop of the service ended it. ``lost``: its process died. ``ray_lost``: Ray died during it.
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
        """Whether it counts towards the limit of failed attempts."""
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
        """Return the state of a batch whose jobs are in these states.

        It is queued before any job has begun, then running until all have ended, then partial if only some have
        succeeded. A batch whose jobs were all deleted is empty.
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
