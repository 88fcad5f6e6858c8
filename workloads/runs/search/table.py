"""Writing of the scores table; :mod:`workloads.answers.scores_table` reads it and describes its columns."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workloads.answers.fidelity import FIGURES
from workloads.runs.search.board import Board, Entry
from workloads.runs.search.rules import standard_error
from workloads.shapes.architecture import TeacherShape
from workloads.shapes.costs import student_cost
from workloads.spec.part import default_length


def write_table(
    shape: TeacherShape,
    entries: Sequence[Entry],
    weights: Mapping[str, str],
    fidelity: Mapping[int, Mapping[str, float]] | None = None,
) -> bytes:
    """Make the table, as a Parquet file.

    Args:
        shape: The teacher's shape, to count costs.
        entries: The candidates.
        weights: Fingerprints of the SuperLMs by sub-space.
        fidelity: Figures of the survivors' fidelity by number; None if the teacher has no output to compare.
    """
    length = default_length(shape.longest)
    costs = [student_cost(shape, entry.candidate.architecture, length) for entry in entries]
    spreads = [standard_error(entry.losses) for entry in entries]
    figures = (
        {
            name: pa.array([fidelity.get(number, {}).get(name) for number in range(len(entries))], pa.float64())
            for name in FIGURES
        }
        if fidelity is not None
        else {}
    )
    table = pa.table(
        {
            "subspace": [entry.candidate.subspace for entry in entries],
            "architecture": [json.dumps(entry.candidate.architecture.to_json()) for entry in entries],
            "weights": [weights[entry.candidate.subspace] for entry in entries],
            "heldout_loss": pa.array([_mean(entry) for entry in entries], pa.float64()),
            "spread": pa.array([one if math.isfinite(one) else None for one in spreads], pa.float64()),
            "rows": pa.array([len(entry.losses) for entry in entries], pa.int64()),
            "rung": pa.array([entry.rung for entry in entries], pa.int64()),
            "dropped_by": pa.array([entry.dropped for entry in entries], pa.string()),
            "params": [cost.params for cost in costs],
            "params_without_embeddings": [cost.params_without_embeddings for cost in costs],
            "flops": [cost.flops for cost in costs],
            **figures,
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def summarise(board: Board, aim: str, shape: TeacherShape) -> dict[str, Any]:
    """Summarise a search, so that readers need not open the table."""
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
        "flops_sequence_length": default_length(shape.longest),
    }


def _mean(entry: Entry) -> float | None:
    return float(entry.losses.mean()) if len(entry.losses) else None
