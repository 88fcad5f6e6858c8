"""Rate limits: a token bucket for each key; each request takes a token."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from ipaddress import ip_address, ip_network

BURST_SECONDS = 2.0
"""Size of a bucket, in seconds of its rate, so that a page can send a few requests at once."""
REFUSALS_PER_SECOND = 5.0
"""Sustained rate of unknown keys from one address, per second; each of them costs a database query."""
_SWEEP_AT = 4096


def address_bucket(address: str) -> str:
    """Name of the bucket of a client's address: for IPv6 its /64 network, since one machine may use all of it."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((found, 64), strict=False)) if found.version == 6 else str(found)


class RateLimit:
    """Token buckets of one service process; several services do not share them.

    Args:
        per_second: Sustained rate of each bucket; 0 for no limit.
        clock: A monotonic clock in seconds.
    """

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_second
        self._size = max(1.0, per_second * BURST_SECONDS)
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens in the bucket, and the time they were counted

    def take(self, name: str) -> float:
        """Take a token if there is one.

        Returns:
            0 if a token was taken, else the seconds until there is one.
        """
        if self._rate == 0:
            return 0.0
        with self._lock:
            at = self._clock()
            if len(self._buckets) >= _SWEEP_AT:
                self._buckets = {one: kept for one, kept in self._buckets.items() if self._level(kept, at) < self._size}
            level = self._now(name, at)
            if level < 1:
                return (1 - level) / self._rate
            self._buckets[name] = level - 1, at
            return 0.0

    def wait(self, name: str) -> float:
        """Seconds until there is a token; none is taken."""
        with self._lock:
            return 0.0 if self._rate == 0 else max(0.0, (1 - self._now(name, self._clock())) / self._rate)

    def _now(self, name: str, at: float) -> float:
        return self._level(self._buckets.get(name, (self._size, at)), at)

    def _level(self, bucket: tuple[float, float], at: float) -> float:
        return min(self._size, bucket[0] + (at - bucket[1]) * self._rate)
