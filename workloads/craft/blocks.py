"""Token blocks: a held-out set read by index, and an endless shuffled training stream that resumes at any step.

Shape letters: B rows of a batch, L tokens of a row.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from workloads.craft.text.packing import Rows
from workloads.craft.text.shards import Shard, Side, read_shard
from workloads.storage.artifacts import Artifact
from workloads.storage.storage import Storage

WINDOW_TOKENS = 1 << 23
"""Tokens shuffled together (32 MiB); memory holds twice that while the next window is read."""


class TokenRows(NamedTuple):
    """Rows as input of a model.

    Attributes:
        input_ids: int64 ``[B, L]``.
        mask: bool ``[B, L]``, True at real tokens; None if no row has padding.
        token_types: int64 ``[B, L]``; None if all are 0.
    """

    input_ids: npt.NDArray[np.int64]
    mask: npt.NDArray[np.bool_] | None
    token_types: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Blocks:
    """One side of a committed corpus.

    Attributes:
        storage: The storage that holds it.
        folder: Folder of the shards, relative to the storage.
        shards: Shards in the order of the corpus.
        sequence_length: Tokens of a row, L.
    """

    storage: Storage
    folder: str
    shards: tuple[Shard, ...]
    sequence_length: int

    @classmethod
    def open(cls, storage: Storage, artifact: Artifact, side: Side) -> Blocks:
        """Open the ``train`` or the ``heldout`` side of a corpus, without reading its rows."""
        summary = artifact.summary
        shards = tuple(Shard(**shard) for shard in summary["sides"][side]["shards"])
        return cls(storage, artifact.files, shards, summary["sequence_length"])

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(shard.rows for shard in self.shards)

    def read(self, indices: Sequence[int] | None = None) -> TokenRows:
        """Read rows into memory by index, in the order of ``indices``; by default all rows."""
        wanted = np.arange(self.rows) if indices is None else np.asarray(indices, np.int64)
        assert not len(wanted) or (wanted.min() >= 0 and wanted.max() < self.rows), "row out of range"
        read = _Filling(len(wanted), self.sequence_length)
        start = 0
        for shard in self.shards:
            here = np.flatnonzero((start <= wanted) & (wanted < start + shard.rows))
            if len(here):
                read.put(here, self._load(shard), wanted[here] - start)
            start += shard.rows
        return read.token_rows()

    def batches(self, seed: int, batch_size: int, start_step: int = 0) -> Generator[TokenRows, None, None]:
        """Yield training batches without end; batch n depends on ``seed`` and n alone.

        An epoch covers all rows once. Shards come in a random order, in windows of about :data:`WINDOW_TOKENS`; the
        rows of a window are shuffled together. Batches continue over the ends of windows and epochs. A later start
        reads no earlier window. All data-parallel ranks read the same stream and take their slices. A background
        thread reads the next window; close the generator to end it.

        Args:
            seed: Seed of the order.
            batch_size: B, over all ranks.
            start_step: Number of the first batch.
        """
        assert self.rows, "an empty side has no batches"
        batch = _Filling(batch_size, self.sequence_length)
        filled = 0
        for rows in self._shuffled(seed, start_step * batch_size):
            taken = 0
            while taken < len(rows.lengths_N):
                count = min(batch_size - filled, len(rows.lengths_N) - taken)
                batch.put(slice(filled, filled + count), rows, slice(taken, taken + count))
                filled, taken = filled + count, taken + count
                if filled == batch_size:
                    yield batch.token_rows()
                    filled = 0

    def _shuffled(self, seed: int, start_row: int) -> Iterator[Rows]:
        with ThreadPoolExecutor(1, thread_name_prefix="blocks") as pool:
            windows = self._windows(seed, start_row)
            ahead = pool.submit(self._load_window, next(windows))
            for window in windows:
                rows = ahead.result()
                ahead = pool.submit(self._load_window, window)
                yield rows
                del rows  # keeps memory at two windows while waiting for the next

    def _windows(self, seed: int, start_row: int) -> Iterator[_Window]:
        epoch, skip = divmod(start_row, self.rows)
        largest = max(WINDOW_TOKENS // self.sequence_length, 1)
        while True:
            order = np.random.default_rng([seed, epoch]).permutation(len(self.shards))
            group: list[Shard] = []
            held = number = 0
            for position, index in enumerate(order):
                group.append(self.shards[index])
                held += group[-1].rows
                last = position + 1 == len(order)
                if last or held + self.shards[order[position + 1]].rows > largest:
                    if skip < held:
                        yield _Window((seed, epoch, number), tuple(group), skip)
                    skip = max(skip - held, 0)
                    group, held, number = [], 0, number + 1
            epoch += 1

    def _load_window(self, window: _Window) -> Rows:
        count = sum(shard.rows for shard in window.shards)
        # Rows are written straight to their shuffled positions, so that memory holds a window once.
        places = np.random.default_rng(window.seed).permutation(count)
        read, start = _Filling(count, self.sequence_length), 0
        for shard in window.shards:
            read.put(places[start : start + shard.rows], self._load(shard), slice(None))
            start += shard.rows
        return read.rows.between(window.skip, None)

    def _load(self, shard: Shard) -> Rows:
        return read_shard(self.storage, f"{self.folder}/{shard.name}", self.sequence_length)


@dataclass(frozen=True)
class _Window:
    """Shards whose rows are shuffled together.

    Attributes:
        seed: Seed of the order: the stream's seed, the epoch, and the window's number in it.
        shards: Shards in the epoch's order.
        skip: Number of shuffled rows before the stream's start.
    """

    seed: tuple[int, int, int]
    shards: tuple[Shard, ...]
    skip: int


class _Filling:
    """Rows that are filled in from shards; all shards of a corpus have token types, or none has."""

    def __init__(self, count: int, length: int) -> None:
        self.rows = Rows(np.empty((count, length), np.int32), np.empty(count, np.int32))

    def put(self, at: Any, rows: Rows, of: Any) -> None:
        """Copy the rows ``of`` some to the places ``at``."""
        if rows.seconds_N is not None and self.rows.seconds_N is None:
            self.rows = replace(self.rows, seconds_N=np.empty_like(self.rows.lengths_N))
        self.rows.ids_NL[at] = rows.ids_NL[of]
        self.rows.lengths_N[at] = rows.lengths_N[of]
        if rows.seconds_N is not None and self.rows.seconds_N is not None:
            self.rows.seconds_N[at] = rows.seconds_N[of]

    def token_rows(self) -> TokenRows:
        """Return a copy of the rows as input of a model."""
        ids_BL, lengths_B, seconds_B = self.rows.ids_NL, self.rows.lengths_N, self.rows.seconds_N
        length = ids_BL.shape[1]
        real_BL = np.arange(length) < lengths_B[:, None]
        types_BL = None
        if seconds_B is not None and (seconds_B < lengths_B).any():
            types_BL = (real_BL & (np.arange(length) >= seconds_B[:, None])).astype(np.int64)
        padded = bool((lengths_B < length).any())
        return TokenRows(ids_BL.astype(np.int64), real_BL if padded else None, types_BL)
