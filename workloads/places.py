"""Where a request may read: folders, prefixes of buckets, ids of the hub.

The service asks when it accepts a request, and the run asks again where it opens a file, for a path may lead
elsewhere by then.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Places:
    """Where requests may read.

    Attributes:
        roots: Local folders, s3:// and gs:// prefixes; None is everything.
        hub: Patterns of hub ids.
    """

    roots: tuple[str, ...] | None = None
    hub: tuple[str, ...] = ("*",)
