"""The scores table, written and read back."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.workloads.runs.search.tables import SHAPE, SPACES, aim, play, spec
from workloads.answers.fidelity import FIGURES
from workloads.answers.scores_table import FILE, read_scores
from workloads.answers.trained import TeacherStage, Trained
from workloads.runs.search.proposals import Exhaustive
from workloads.runs.search.table import write_table
from workloads.storage import artifacts
from workloads.storage.artifacts import Artifact, Key
from workloads.storage.storage import Storage

SUPERLMS = {space.name: Key("superlm", {"name": space.name}) for space in SPACES}
WEIGHTS = {name: key.fingerprint for name, key in SUPERLMS.items()}


def _commit(storage: Storage, table: bytes) -> Artifact:
    key = Key("scores", {"superlms": WEIGHTS})
    storage.write_bytes(f"{artifacts.build_folder(key, 'b')}/{FILE}", table)
    return artifacts.commit(storage, key, "b", {"aim": "frontier"})


def _table() -> pa.Table:
    board = play(Exhaustive(SPACES), aim(spec()))
    return pq.read_table(io.BytesIO(write_table(SHAPE, board.entries, WEIGHTS)))


def _written(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


@pytest.mark.parametrize("without", [[], ["weights"]], ids=["this table", "a table before the column of weights"])
def test_each_candidate_names_its_weights(tmp_path: Path, without: list[str]) -> None:
    storage = Storage.open(str(tmp_path))
    scores = _commit(storage, _written(_table().drop_columns(without)))
    superlms = {name: Artifact("superlm", key.fingerprint, key.folder, {}, {}) for name, key in SUPERLMS.items()}
    trained = Trained(TeacherStage(scores, "t", SHAPE), scores, tuple(SPACES), superlms, scores)
    rows = read_scores(storage, scores)
    assert {row.scored.subspace for row in rows} == set(WEIGHTS)
    for row in rows:
        assert row.scored.weights == WEIGHTS[row.scored.subspace]
        assert trained.weights(row.scored) is superlms[row.scored.subspace]


def test_rows_and_rungs_may_be_unknown(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    table = _table()
    nothing: Any = pa.nulls(len(table), pa.int64())
    for name in ("rows", "rung"):
        table = table.set_column(table.column_names.index(name), name, nothing)
    rows = read_scores(storage, _commit(storage, _written(table)))
    assert rows and all(row.rows is None and row.rung is None for row in rows)


def test_the_fidelity_of_survivors_is_kept_and_an_encoders_table_has_no_columns_for_it(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    board = play(Exhaustive(SPACES), aim(spec()))
    assert not set(FIGURES) & set(_table().column_names)
    figures = {number: {"cosine": 0.9, "neighbours_at_10": 0.01 * place} for place, number in enumerate(board.alive)}
    rows = read_scores(storage, _commit(storage, write_table(SHAPE, board.entries, WEIGHTS, figures)))
    assert all((row.scored.fidelity is not None) == row.survives for row in rows)
    assert [row.scored.fidelity for row in rows if row.survives] == list(figures.values())
