"""Rows of results, in a Parquet file that is replaced as a whole, so that an interruption never leaves a part of it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

Values = npt.NDArray[np.float32]
_JSON = pa.string()
_SCHEMA = pa.schema(
    {
        "fingerprint": pa.string(),
        "kind": pa.string(),
        "name": pa.string(),
        "profile": pa.string(),
        "inputs": _JSON,
        "result": _JSON,
        "values": pa.list_(pa.float32()),
        "cpu_seconds": pa.float64(),
        "wall_seconds": pa.float64(),
        "date": pa.string(),
        "commit": pa.string(),
        "machine": _JSON,
        "libraries": _JSON,
    }
)
_IN_JSON = ("inputs", "result", "machine", "libraries")


@dataclass(frozen=True, eq=False)
class Row:
    """The result of a piece, with the machine, commit and time that it was measured with.

    Attributes:
        profile: Name of the profile that ran the piece; other profiles may use the row.
        inputs: The piece's inputs.
        values: Answers to a task's validation rows, or the labels of these rows; None for other kinds of pieces.
        cpu_seconds: CPU-seconds of the process that ran the piece.
        commit: Commit of the code, with ``+`` if files had been changed since.
    """

    fingerprint: str
    kind: str
    name: str
    profile: str
    inputs: dict[str, Any]
    result: dict[str, Any]
    values: Values | None
    cpu_seconds: float
    wall_seconds: float
    date: str
    commit: str
    machine: dict[str, Any]
    libraries: dict[str, str]


Rows = Mapping[str, Row]
"""Rows by their fingerprints."""


def read_rows(path: Path) -> dict[str, Row]:
    """Read all rows; none where there is no file."""
    if not path.exists():
        return {}
    rows = {}
    for found in pq.read_table(path).to_pylist():
        found |= {name: json.loads(found[name]) for name in _IN_JSON}
        found["values"] = None if found["values"] is None else np.asarray(found["values"], np.float32)
        rows[found["fingerprint"]] = Row(**found)
    return rows


def append_rows(path: Path, new: Sequence[Row]) -> None:
    """Add rows whose fingerprints are not there yet; the file is written anew beside itself and then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):
        rows = read_rows(path)
        for row in new:
            rows.setdefault(row.fingerprint, row)
        beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
        try:
            pq.write_table(_table(rows.values()), beside, compression="zstd")
            with beside.open("rb") as file:
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def merge_files(path: Path, others: Sequence[Path]) -> int:
    """Add the rows of other machines' files, and return how many were new; of a piece that both have, ours stays.

    Raises:
        FileNotFoundError: One of the files is not there.
    """
    for other in others:
        if not other.exists():
            raise FileNotFoundError(other)
    before = len(read_rows(path))
    append_rows(path, [row for other in others for row in read_rows(other).values()])
    return len(read_rows(path)) - before


def _table(rows: Iterable[Row]) -> pa.Table:
    columns: dict[str, list[Any]] = {name: [] for name in _SCHEMA.names}
    for row in rows:
        for name, column in columns.items():
            value = getattr(row, name)
            column.append(json.dumps(value, sort_keys=True) if name in _IN_JSON else value)
    return pa.table(columns, schema=_SCHEMA)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes of this machine from replacing files of the folder meanwhile."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
