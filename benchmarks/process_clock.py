"""CPU-seconds of all processes below one, those that have ended included, by what they are.

A thread reads the process table ten times a second. A process that ends loses at most what it used since the last look.
Once seen, a process stays counted when its parent ends.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

LOOK_SECONDS = 0.1
_FOLDERS = re.compile(r"(?:/[^/\s]+)+/")
_TICK = os.sysconf("SC_CLK_TCK")
_KINDS = {
    "gcs_server": "Ray's control store",
    "/raylet/raylet": "Ray's raylet",
    "dashboard/agent.py": "Ray's agents",
    "runtime_env/agent": "Ray's agents",
    "dashboard/dashboard.py": "Ray's dashboard",
    "ray/dashboard": "Ray's dashboard",
    "log_monitor": "Ray's log monitor",
    "workloads.runs.job": "driver",
    "ray start": "ray start",
    "services.cli": "service",
}
"""Kinds by a part of the command line, the first that fits."""
_Id = tuple[int, int]
"""Number and start of a process."""


@dataclass
class _Seen:
    kind: str
    seconds: float
    first: float


@dataclass
class ProcessClock:
    """Clock of a process and everything that it starts.

    Attributes:
        root: Number of the process.
    """

    root: int
    _seen: dict[_Id, _Seen] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Look at the processes until the end of the block."""
        thread = threading.Thread(target=self._run, daemon=True)
        self._look()
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
            self._look()

    def seconds(self) -> Counter[str]:
        """CPU-seconds so far, by kind of process."""
        found: Counter[str] = Counter()
        for one in self._seen.values():
            found[one.kind] += one.seconds  # type: ignore[assignment]  # a Counter of seconds
        return found

    def _run(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        table = dict(_table())
        ours = {number for number, _ in self._seen} | {self.root}
        parents = {number: parent for (number, _), (parent, _) in table.items()}
        for (number, start), (_, seconds) in table.items():
            if (number, start) not in self._seen and not _is_below(number, parents, ours):
                continue
            kind = _kind(number)
            one = self._seen.setdefault((number, start), _Seen(kind or "starting", 0.0, time.monotonic()))
            one.seconds = seconds
            if kind is not None and not kind.endswith("IDLE"):
                one.kind = kind


def _table() -> Iterator[tuple[_Id, tuple[int, float]]]:
    """Number and start of each process, with its parent and its CPU-seconds."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            seconds = (int(fields[11]) + int(fields[12])) / _TICK
            yield (int(folder.name), int(fields[19])), (int(fields[1]), seconds)


def _is_below(number: int, parents: dict[int, int], ours: set[int]) -> bool:
    while number > 1:
        if number in ours:
            return True
        number = parents.get(number, 0)
    return False


def _kind(number: int) -> str | None:
    try:
        command = Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return None
    if not command:
        return None
    if command.startswith("ray::"):
        return re.split(r"[.\s(]", command, maxsplit=1)[0]
    found = next((kind for part, kind in _KINDS.items() if part in command), None)
    return found or _FOLDERS.sub("", command)[:60]  # the folders are those of this machine
