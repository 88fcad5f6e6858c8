"""How often a key may ask: a bucket a key that tokens drip into, and that each request takes one from."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from ipaddress import ip_address, ip_network

BURST_SECONDS = 2.0
"""A bucket holds what comes in so many seconds, so that a page may ask for a few things at once."""
REFUSALS_PER_SECOND = 5.0
"""Unknown keys a second that may be tried from one address for long; each asks the database."""
_SWEEP_AT = 4096


def neighbourhood(address: str) -> str:
    """What stands for a client's address in a bucket's name: of IPv6 the network, which one machine has all of."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((found, 64), strict=False)) if found.version == 6 else str(found)


class RateLimit:
    """The buckets of one service; each of several services has its own.

    Args:
        per_second: Requests a second that each may make for long; 0 is no limit.
        clock: Seconds that only grow.
    """

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_second
        self._size = max(1.0, per_second * BURST_SECONDS)
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}  # what was in it, and when

    def take(self, name: str) -> float:
        """Take a token.

        Returns:
            0, or the seconds until there is one; then none was taken.
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
        """The seconds until there is a token; none is taken."""
        with self._lock:
            return 0.0 if self._rate == 0 else max(0.0, (1 - self._now(name, self._clock())) / self._rate)

    def _now(self, name: str, at: float) -> float:
        return self._level(self._buckets.get(name, (self._size, at)), at)

    def _level(self, bucket: tuple[float, float], at: float) -> float:
        return min(self._size, bucket[0] + (at - bucket[1]) * self._rate)
