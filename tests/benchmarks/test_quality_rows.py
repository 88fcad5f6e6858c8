from __future__ import annotations

import dataclasses
import multiprocessing

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.quality.pieces import Piece
from benchmarks.quality.rows import Row, append_rows, merge_files, read_rows


def made_row(name: str, **changes: object) -> Row:
    row = Row(
        fingerprint=name,
        kind="task",
        name=f"piece {name}",
        profile="smoke",
        inputs={"task": "rte", "seed": 0},
        result={"score": 0.5},
        values=np.array([0, 1, 1], np.float32),
        cpu_seconds=1.5,
        wall_seconds=1.0,
        date="2026-01-01T00:00:00+00:00",
        commit="abc",
        machine={"cores": 2},
        libraries={"torch": "2"},
    )
    return dataclasses.replace(row, **changes)


def _same(one: Row, other: Row) -> bool:
    pairs = ((getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(Row))
    return all(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in pairs)


def test_rows_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "results" / "rows.parquet"
    assert read_rows(path) == {}
    rows = [made_row("a"), made_row("b", values=None, result={"losses": {"x": float("nan")}, "of": [1, None]})]
    append_rows(path, rows[:1])
    append_rows(path, rows[1:])
    found = read_rows(path)
    assert list(found) == ["a", "b"]
    assert _same(found["a"], rows[0])
    assert found["b"].values is None
    assert np.isnan(found["b"].result["losses"]["x"])


def test_a_row_that_is_there_stays(tmp_path):
    path = tmp_path / "rows.parquet"
    append_rows(path, [made_row("a")])
    append_rows(path, [made_row("a", result={"score": 0.9}), made_row("b")])
    assert {name: row.result["score"] for name, row in read_rows(path).items()} == {"a": 0.5, "b": 0.5}


def test_a_write_that_fails_leaves_the_rows_as_they_were(tmp_path, monkeypatch):
    path = tmp_path / "rows.parquet"
    append_rows(path, [made_row("a")])

    def half(table, where, **_):
        where.write_bytes(b"PAR1")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", half)
    with pytest.raises(OSError, match="No space"):
        append_rows(path, [made_row("b")])
    assert list(read_rows(path)) == ["a"]
    assert [one.name for one in tmp_path.iterdir()] == ["rows.parquet"]


def test_files_of_two_machines_are_merged(tmp_path):
    ours, theirs = tmp_path / "ours.parquet", tmp_path / "theirs.parquet"
    append_rows(ours, [made_row("a"), made_row("both")])
    append_rows(theirs, [made_row("both", machine={"cores": 96}), made_row("c", machine={"cores": 96})])
    assert merge_files(ours, [theirs]) == 1
    assert {name: row.machine["cores"] for name, row in read_rows(ours).items()} == {"a": 2, "both": 2, "c": 96}
    assert merge_files(ours, [theirs]) == 0
    with pytest.raises(FileNotFoundError):
        merge_files(ours, [tmp_path / "missing.parquet"])


def test_processes_that_append_at_once_lose_nomade_row(tmp_path):
    path = tmp_path / "rows.parquet"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_some, args=(path, letter)) for letter in "abc"]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    assert len(read_rows(path)) == 3 * 5


def _append_some(path, letter):
    for number in range(5):
        append_rows(path, [made_row(f"{letter}{number}")])


def test_the_fingerprint_depends_on_all_inputs_and_on_nothing_else():
    inputs = {"scene": "s", "tokens": 1000, "seed": 0, "training": {"learning_rate": 1e-3}}
    piece = Piece("distil", "alone", inputs, seconds=3)
    assert Piece("distil", "another name", dict(reversed(inputs.items()))).fingerprint == piece.fingerprint
    others = [Piece("search", "alone", inputs)]
    others += [Piece("distil", "alone", inputs | {name: "other"}) for name in inputs]
    assert len({piece.fingerprint, *(one.fingerprint for one in others)}) == 1 + len(others)
