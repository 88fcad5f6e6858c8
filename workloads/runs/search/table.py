"""The scores table: a row a candidate, in Parquet.

| column | |
|---|---|
| subspace, architecture | the candidate |
| heldout_loss | mean loss over the rows it was scored on; null where it went unscored |
| spread | standard error of that mean; null with it, and where one row was all |
| rows, rung | how many held-out rows, and the last rung (from 0; -1 for none) |
| dropped_by | why it went: the candidate that outdoes it, or the rule; null for survivors |
| params, params_without_embeddings, flops | what it costs; flops at 128 tokens |
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workloads.architecture import Architecture, TeacherShape
from workloads.artifacts import Artifact
from workloads.choosing import Scored
from workloads.costs import student_cost
from workloads.runs.search.board import Board, Entry
from workloads.runs.search.rules import standard_error
from workloads.storage import Storage

SCORES = "scores.parquet"
FLOPS_LENGTH = 128
"""Tokens that the ``flops`` column is counted at."""


def write_table(shape: TeacherShape, entries: Sequence[Entry]) -> bytes:
    """Give the table as a Parquet file."""
    costs = [student_cost(shape, entry.candidate.architecture, FLOPS_LENGTH) for entry in entries]
    spreads = [standard_error(entry.losses) for entry in entries]
    table = pa.table(
        {
            "subspace": [entry.candidate.subspace for entry in entries],
            "architecture": [json.dumps(entry.candidate.architecture.to_json()) for entry in entries],
            "heldout_loss": pa.array([_mean(entry) for entry in entries], pa.float64()),
            "spread": pa.array([one if math.isfinite(one) else None for one in spreads], pa.float64()),
            "rows": pa.array([len(entry.losses) for entry in entries], pa.int64()),
            "rung": pa.array([entry.rung for entry in entries], pa.int64()),
            "dropped_by": pa.array([entry.dropped for entry in entries], pa.string()),
            "params": [cost.params for cost in costs],
            "params_without_embeddings": [cost.params_without_embeddings for cost in costs],
            "flops": [cost.flops for cost in costs],
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def read_scores(storage: Storage, artifact: Artifact, *, survivors_only: bool = False) -> list[Scored]:
    """Read the scores table's rows back, in the order of the candidates; without those that were never scored.

    Args:
        storage: Where it lies.
        artifact: The committed scores.
        survivors_only: Leave out those that went early. Choose among the survivors: they were scored on all rows,
            so that their losses compare. With the aim ``frontier`` they answer every budget over costs that any
            candidate meets; with ``budgets`` those that were asked for. The others are for pictures.
    """
    table = pq.read_table(io.BytesIO(storage.read_bytes(f"{artifact.files}/{SCORES}")))
    return [
        Scored(
            row["subspace"],
            Architecture.from_json(json.loads(row["architecture"])),
            row["heldout_loss"],
            spread=row["spread"] or 0.0,
        )
        for row in table.to_pylist()
        if row["heldout_loss"] is not None and not (survivors_only and row["dropped_by"])
    ]


def summarise(board: Board, aim: str) -> dict[str, Any]:
    """What is to be known of a search without opening the table."""
    best: dict[str, float] = {}
    for entry in board.entries:
        if entry.dropped is None:
            space = entry.candidate.subspace
            best[space] = min(float(entry.losses.mean()), best.get(space, math.inf))
    return {
        "aim": aim,
        "candidates": len(board.entries),
        "survivors": len(board.alive),
        "rungs": list(board.rungs),
        "scored_rows": sum(len(entry.losses) for entry in board.entries),
        "best": best,
        "flops_sequence_length": FLOPS_LENGTH,
    }


def _mean(entry: Entry) -> float | None:
    return float(entry.losses.mean()) if len(entry.losses) else None
