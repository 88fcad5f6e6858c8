"""The scores table: every candidate of a search, its scores, and why it was dropped. Light to import.

Parquet, a row a candidate:

| column | |
|---|---|
| subspace, architecture | the candidate |
| weights | fingerprint of the artefact with its weights; in tables without this column the SuperLM of its sub-space |
| heldout_loss | mean loss over the rows it was scored on; null if it was never scored |
| spread | standard error of that mean; null without a loss, and after a single row |
| rows, rung | number of held-out rows, and last rung (from 0; -1 for none); null if a method scores without rungs |
| dropped_by | the better candidate or the rule that dropped it; null for survivors |
| params, params_without_embeddings, flops | its costs; flops at 128 tokens, or the teacher's longest input if shorter |
| agreement, kl, cosine, ... | a survivor's fidelity in the SuperLM, a column for each of
:data:`workloads.answers.fidelity.FIGURES`; null if a figure does not apply; no columns if the teacher has no output |

Choose among the survivors: they were scored on all rows, so their losses can be compared. After a search with the aim
``frontier`` they answer every budget on costs that any candidate meets; with ``budgets`` those of the request.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from workloads.answers.choosing import Scored
from workloads.answers.fidelity import FIGURES
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
    """A row of the table.

    Attributes:
        scored: The candidate, with the loss of the last rung it reached.
        rows: Number of held-out rows it was scored on; None if it was trained and scored alone.
        rung: The last rung it reached, from 0; None if it was trained and scored alone.
        dropped_by: The better candidate or the rule that dropped it; None for a survivor.
    """

    scored: Scored
    rows: int | None
    rung: int | None
    dropped_by: str | None

    @property
    def survives(self) -> bool:
        """Whether the candidate was not dropped."""
        return self.dropped_by is None


def choosable(trained: Trained, rows: Sequence[ScoredRow]) -> list[Scored]:
    """Return the candidates that a student may be chosen from.

    These are the survivors. After a search that aimed at other budgets they are all scored candidates, since those
    that the present budgets need may have been dropped. The losses of dropped candidates are over fewer rows, and
    candidates over all of that search's budgets are missing, since they were never scored.
    """
    return [row.scored for row in rows if row.survives or not trained.covers_any_budget]


def read_scores(storage: Storage, artifact: Artifact) -> list[ScoredRow]:
    """Read the table of a search's artefact, in its order, without the candidates that were never scored.

    Raises:
        FileNotFoundError: The table has been removed.
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
                fidelity=_fidelity(row),
            ),
            row["rows"],
            row["rung"],
            row["dropped_by"],
        )
        for row in table.to_pylist()
        if row["heldout_loss"] is not None
    ]


def _fidelity(row: Mapping[str, Any]) -> dict[str, float] | None:
    figures = {name: value for name in FIGURES if (value := row.get(name)) is not None}
    return figures or None


def read_task_table(storage: Storage, artifact: Artifact) -> dict[Candidate, float]:
    """Read the scores of candidates on a proxy task, in the order in which they were given to it.

    Raises:
        FileNotFoundError: The table has been removed.
    """
    table = pq.read_table(io.BytesIO(storage.read_bytes(f"{artifact.files}/{TASK_FILE}")))
    return {
        (row["subspace"], Architecture.from_json(json.loads(row["architecture"]))): row["task_score"]
        for row in table.select(["subspace", "architecture", "task_score"]).to_pylist()
    }
