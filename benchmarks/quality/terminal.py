"""Output of the bench on the terminal."""

from __future__ import annotations

import sys
import time


def say(line: str) -> None:
    """Write a line with the time of day in one write, since several processes share the terminal."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()
