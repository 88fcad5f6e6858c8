"""The scores table: every candidate that a search looked at, and what became of it. Light to import.

Parquet, a row a candidate:

| column | |
|---|---|
| subspace, architecture | the candidate |
| weights | fingerprint of the artefact that holds its weights; tables before this column: of its sub-space's SuperLM |
| heldout_loss | mean loss over the rows it was scored on; null where it went unscored |
| spread | standard error of that mean; null with it, and where one row was all |
| rows, rung | how many held-out rows, and the last rung (from 0; -1 for none); null where a method scores otherwise |
| dropped_by | why it went: the candidate that outdoes it, or the rule; null for survivors |
| params, params_without_embeddings, flops | what it costs; flops at 128 tokens, or as many as the teacher reads |

Choose among the survivors: they were scored on all rows, so that their losses compare. With the aim ``frontier`` they
answer every budget over costs that any candidate meets; with ``budgets`` those that were asked for.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow.parquet as pq

from workloads.answers.choosing import Scored
from workloads.answers.trained import Trained
from workloads.shapes.architecture import Architecture
from workloads.storage.artifacts import Artifact
from workloads.storage.storage import Storage

FILE = "scores.parquet"
TASK_FILE = "task_scores.parquet"
"""Table beside it, with a proxy task only: the fine-tuned candidates and their ``task_score``."""
Candidate = tuple[str, Architecture]
"""The name of a sub-space and an architecture in it."""


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """A row.

    Attributes:
        scored: The candidate, with the loss of the last rung it reached.
        rows: Held-out rows it was scored on; None where it was trained and scored alone.
        rung: The last rung it reached, from 0; None likewise.
        dropped_by: Why it went no further; None for those that a student may be chosen from.
    """

    scored: Scored
    rows: int | None
    rung: int | None
    dropped_by: str | None

    @property
    def survives(self) -> bool:
        """Whether a student may be chosen from it."""
        return self.dropped_by is None


def choosable(trained: Trained, rows: Sequence[ScoredRow]) -> list[Scored]:
    """The candidates that a student may be chosen from.

    The survivors; but where a search had other budgets as its aim, all that it scored, for what these budgets need
    may have gone early. Their losses are then of fewer rows, and candidates over all of its budgets have none.
    """
    return [row.scored for row in rows if row.survives or not trained.covers_any_budget]


def read_scores(storage: Storage, artifact: Artifact) -> list[ScoredRow]:
    """Read the table of a search's artefact, in the order of the sub-spaces, without those that were never scored.

    Raises:
        FileNotFoundError: It has been removed.
    """
    table = pq.read_table(io.BytesIO(storage.read_bytes(f"{artifact.files}/{FILE}")))
    shared = {} if "weights" in table.column_names else artifact.inputs["superlms"]
    return [
        ScoredRow(
            Scored(
                row["subspace"],
                Architecture.from_json(json.loads(row["architecture"])),
                row["heldout_loss"],
                spread=row["spread"] or 0.0,
                weights=shared[row["subspace"]] if shared else row["weights"],
            ),
            row["rows"],
            row["rung"],
            row["dropped_by"],
        )
        for row in table.to_pylist()
        if row["heldout_loss"] is not None
    ]


def read_task_table(storage: Storage, artifact: Artifact) -> dict[Candidate, float]:
    """Read what candidates scored on a proxy task, in the order they were given to it.

    Raises:
        FileNotFoundError: It has been removed.
    """
    table = pq.read_table(io.BytesIO(storage.read_bytes(f"{artifact.files}/{TASK_FILE}")))
    return {
        (row["subspace"], Architecture.from_json(json.loads(row["architecture"]))): row["task_score"]
        for row in table.select(["subspace", "architecture", "task_score"]).to_pylist()
    }
