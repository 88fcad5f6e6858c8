"""Shards: token rows in Parquet files, written per split and side.

A shard has a fixed-size list column ``input_ids`` (int32, zstd) and ``length`` (int32, the real tokens of the row).
Rows that a teacher with a head reads also have ``second`` (int32, the place of the first token of type 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from workloads.craft.text.packing import Rows
from workloads.storage.storage import Storage

Side = Literal["train", "heldout"]
SIDES: tuple[Side, Side] = ("train", "heldout")
_ROWS, _TOKENS = 8192, 1 << 21


@dataclass(frozen=True)
class Shard:
    """A file of token rows.

    Attributes:
        name: File name; sorts by split, then part.
        rows: Number of rows.
        tokens: Number of real tokens.
    """

    name: str
    rows: int
    tokens: int


class ShardWriter:
    """Writer of the rows of one split and side, as files of equal row counts; holds at most one file's rows.

    Args:
        storage: The storage to write to.
        folder: Folder of the shards, relative to the storage.
        side: Part of the file names.
        split: Part of the file names.
        length: Tokens of a row.
    """

    def __init__(self, storage: Storage, folder: str, side: Side, split: int, length: int) -> None:
        self.shards: list[Shard] = []
        self._storage, self._prefix = storage, f"{folder}/{side}-{split:06d}"
        self._full = min(_ROWS, max(_TOKENS // length, 1))
        self._held: list[Rows] = []
        self._rows = 0

    def add(self, rows: Rows) -> None:
        """Add rows, and write each file that is full.

        Raises:
            OSError: The storage cannot be written.
        """
        while len(rows.lengths_N):
            room = self._full - self._rows
            self._held.append(rows.between(0, room))
            self._rows += len(self._held[-1].lengths_N)
            rows = rows.between(room, None)
            if self._rows == self._full:
                self.flush()

    def flush(self) -> None:
        """Write the rows held back.

        Raises:
            OSError: The storage cannot be written.
        """
        if not self._rows:
            return
        ids_NL = np.concatenate([rows.ids_NL for rows in self._held])
        lengths_N = np.concatenate([rows.lengths_N for rows in self._held])
        column = pa.FixedSizeListArray.from_arrays(pa.array(ids_NL.reshape(-1)), ids_NL.shape[1])
        columns = {"input_ids": column, "length": pa.array(lengths_N)}
        seconds = [rows.seconds_N for rows in self._held if rows.seconds_N is not None]
        if seconds:
            columns["second"] = pa.array(np.concatenate(seconds))
        table = pa.table(columns)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", use_dictionary=False, write_statistics=False)
        path = f"{self._prefix}-{len(self.shards):04d}.parquet"
        self._storage.write_bytes(path, sink.getvalue())
        self.shards.append(Shard(path.rpartition("/")[2], len(lengths_N), int(lengths_N.sum())))
        self._held, self._rows = [], 0


def read_shard(storage: Storage, path: str, length: int) -> Rows:
    """Read a whole shard.

    Args:
        storage: The storage that holds it.
        path: Path of the shard, relative to the storage.
        length: Tokens of a row.
    """
    with storage.open_input(path) as file:
        table = pq.read_table(file, use_threads=False)
    values = table["input_ids"].combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = values.chunk(0)
    ids_NL = values.flatten().to_numpy().reshape(-1, length)
    seconds_N = table["second"].to_numpy() if "second" in table.column_names else None
    return Rows(ids_NL, table["length"].to_numpy(), seconds_N)
