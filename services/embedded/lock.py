"""File lock in the state folder, so that only one service uses it; the lock ends with its process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from workloads.spec.errors import InputError

FILE = "service.lock"


class ServiceLock:
    """Lock that is held from its creation until :meth:`release` or the end of the process.

    Args:
        state: The state folder.

    Raises:
        InputError: Another service holds it.
    """

    def __init__(self, state: Path) -> None:
        self._file = (state / FILE).open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise InputError.of(
                "storage",
                f"Another stillroom (process {holder}) already serves this storage ({state}).",
                "Stop it first, talk to it with `stillroom submit`, or use another --storage.",
            ) from None
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        """Release the lock for another service."""
        self._file.close()
