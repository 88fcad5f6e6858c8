"""Losses of an unfinished search, saved in the storage, so that a search that was cut off can continue.

The files are ``artifacts/scores/<fingerprint>/rungs/<builder>/<n>.jsonl``, with a line per candidate and rung. A file
is written at most once a second, and always whole, since object stores cannot append. So a kill loses about a second
of scoring. A search first reads the files of all attempts, makes its decisions again from these losses, and computes
the missing ones. The files are removed once the scores table is committed. ``Tuner.restore`` is no alternative: it
restores trials from snapshots that are seconds old, and only on the driver's disk.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping

import numpy as np

from workloads.craft.scoring import Losses
from workloads.runs.search.board import Work
from workloads.runs.search.rules import Candidate
from workloads.shapes.architecture import Architecture
from workloads.storage.artifacts import Key
from workloads.storage.storage import Storage

EVERY_SECONDS = 1.0


class Results:
    """Saved losses of one search.

    Args:
        storage: The storage.
        key: Key of the scores table.
        builder: Names the job and the attempt; no two write the same file.
    """

    def __init__(self, storage: Storage, key: Key, builder: str) -> None:
        self._storage = storage
        self._folder = f"{key.folder}/rungs"
        self._own = f"{self._folder}/{builder}"
        self._files = len(storage.list(self._own))
        self._lines: list[str] = []
        self._written = time.monotonic()

    def read(self) -> dict[tuple[Candidate, int], Losses]:
        """Read the losses that all attempts saved, by candidate and first row."""
        found = {}
        for name in self._storage.list(self._folder, recursive=True):
            if name.endswith(".jsonl"):
                for line in self._storage.read_bytes(f"{self._folder}/{name}").splitlines():
                    row = json.loads(line)
                    candidate = Candidate(row["subspace"], Architecture.from_json(row["architecture"]))
                    found[candidate, row["start"]] = np.frombuffer(base64.b64decode(row["losses"]))
        return found

    def add(self, work: Work, scores: Mapping[int, Losses]) -> None:
        """Add the losses of a lot; they are written at most once a second.

        Raises:
            OSError: The storage cannot be written.
        """
        for number, candidate in work.candidates:
            row = {
                "subspace": candidate.subspace,
                "architecture": candidate.architecture.to_json(),
                "start": work.start,
                "losses": base64.b64encode(scores[number].astype(np.float64).tobytes()).decode(),
            }
            self._lines.append(json.dumps(row))
        if time.monotonic() - self._written >= EVERY_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the losses that are not written yet.

        Raises:
            OSError: The storage cannot be written.
        """
        if self._lines:
            text = "\n".join(self._lines) + "\n"
            self._storage.write_bytes(f"{self._own}/{self._files:06}.jsonl", text.encode())
            self._files += 1
            self._lines.clear()
        self._written = time.monotonic()

    def remove(self) -> None:
        """Remove the files of all attempts."""
        self._storage.remove(self._folder)
