"""Scores as they come, kept in the storage, so that a search that was cut off is taken up where it stood.

They lie beside the builds of the scores table, ``artifacts/scores/<fingerprint>/rungs/<builder>/<n>.jsonl``: a line a
candidate and rung, each file written whole, every second at most; so what a kill costs is a second of scoring, and an
object store, which cannot append, serves as well. A search reads the files of all attempts before it starts, decides
anew from them (decisions follow from scores alone) and scores what is missing. ``Tuner.restore`` would give back
Tune's trials, from snapshots that are seconds old and on the driver's disk; here the storage is enough, on any node.
The table, once committed, makes the files superfluous, and they are removed.
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
    """The scores of one search.

    Args:
        storage: Where they are kept.
        key: Of the scores table.
        builder: Names the job and attempt; two never write the same file.
    """

    def __init__(self, storage: Storage, key: Key, builder: str) -> None:
        self._storage = storage
        self._folder = f"{key.folder}/rungs"
        self._own = f"{self._folder}/{builder}"
        self._files = len(storage.list(self._own))
        self._lines: list[str] = []
        self._written = time.monotonic()

    def read(self) -> dict[tuple[Candidate, int], Losses]:
        """Read what all attempts scored, by candidate and first row."""
        found = {}
        for name in self._storage.list(self._folder, recursive=True):
            if name.endswith(".jsonl"):
                for line in self._storage.read_bytes(f"{self._folder}/{name}").splitlines():
                    row = json.loads(line)
                    candidate = Candidate(row["subspace"], Architecture.from_json(row["architecture"]))
                    found[candidate, row["start"]] = np.frombuffer(base64.b64decode(row["losses"]))
        return found

    def add(self, work: Work, scores: Mapping[int, Losses]) -> None:
        """Keep what a lot scored.

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
        """Write what is not written yet.

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
        """Remove what all attempts wrote."""
        self._storage.remove(self._folder)
