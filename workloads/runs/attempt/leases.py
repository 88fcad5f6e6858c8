"""Leases: if two jobs need the same stage at once, one builds it and the other waits.

A lease only saves work. A builder that lost its lease (its machine slept) does no harm: each builder writes below
a folder of its own, and all builders of a stage commit equal results.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import structlog

EXPIRY_SECONDS = 15.0
BEAT_SECONDS = 3.0
POLL_SECONDS = 0.5
ACTOR = "stillroom-leases"
NAMESPACE = "stillroom"

_log = structlog.get_logger(__name__)


class LeaseTable:
    """Table of leases: holder and expiry by name.

    Args:
        clock: A monotonic clock in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: dict[str, tuple[str, float]] = {}

    def take(self, name: str, owner: str, seconds: float) -> bool:
        """Grant ``owner`` the lease of ``name``, or renew it; False while another holds it."""
        now = self._clock()
        holder, until = self._held.get(name, (owner, 0.0))
        if holder != owner and until > now:
            return False
        self._held[name] = (owner, now + seconds)
        return True

    def give_back(self, name: str, owner: str) -> None:
        """End a lease, if ``owner`` still holds it."""
        if self._held.get(name, ("", 0.0))[0] == owner:
            del self._held[name]


def _table() -> Any:
    import ray

    # Detached, so that it outlives the driver that starts it. After a restart the holders' heartbeats refill it.
    return (
        ray.remote(LeaseTable)
        .options(
            name=ACTOR, namespace=NAMESPACE, lifetime="detached", get_if_exists=True, num_cpus=0, max_restarts=-1,
            max_task_retries=3,
        )
        .remote()
    )  # fmt: skip


@contextlib.contextmanager
def lease(
    fingerprint: str,
    owner: str,
    waiting: Callable[[], None] | None = None,
    *,
    expiry_seconds: float = EXPIRY_SECONDS,
    beat_seconds: float = BEAT_SECONDS,
) -> Iterator[None]:
    """Wait for the lease to build ``fingerprint``, and hold it. Then check whether another has built it meanwhile.

    Args:
        fingerprint: Fingerprint of the artefact to build.
        owner: Unique among the builders, such as job and attempt.
        waiting: Called once if another holds the lease.
        expiry_seconds: Time without a heartbeat after which a holder loses the lease.
        beat_seconds: Time between two heartbeats.
    """
    import ray

    table = _table()
    told = False
    while not ray.get(table.take.remote(fingerprint, owner, expiry_seconds)):
        if waiting is not None and not told:
            waiting()
        told = True
        time.sleep(POLL_SECONDS)
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(beat_seconds):
            try:
                if not ray.get(table.take.remote(fingerprint, owner, expiry_seconds), timeout=expiry_seconds):
                    _log.warning("lease_lost", fingerprint=fingerprint, owner=owner)
            except ray.exceptions.RayError as error:
                _log.warning("lease_not_renewed", fingerprint=fingerprint, error=str(error))

    beats = threading.Thread(target=beat, name="lease", daemon=True)
    beats.start()
    try:
        yield
    finally:
        ended.set()
        beats.join(expiry_seconds)
        try:
            ray.get(table.give_back.remote(fingerprint, owner), timeout=expiry_seconds)
        except ray.exceptions.RayError as error:  # it expires by itself
            _log.warning("lease_not_given_back", fingerprint=fingerprint, error=str(error))
