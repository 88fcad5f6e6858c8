"""New budgets on a finished compression: answered from its scores table, without training and without Ray.

The students' files are made afterwards by a job of the kind ``selection``; until then they are shown as pending.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from services.jobs.intake import with_targets
from services.jobs.records import Job
from workloads import artifacts
from workloads.architecture import Architecture
from workloads.budgets import Budget, LatencyTarget
from workloads.choosing import Choice, Scored, choose
from workloads.costs import Cost
from workloads.errors import InputError
from workloads.frontier import pareto_front
from workloads.job_folder import CostDocument
from workloads.latency import LatencySamples
from workloads.latency_model import LatencyModels
from workloads.request import CompressionRequest, parse_request
from workloads.scores_table import ScoredRow, choosable, read_scores
from workloads.storage import Storage
from workloads.trained import Trained, recall

OTHER_AIM = (
    "The search's aim was its own budgets: candidates that it left early were scored on fewer rows, and those over all "
    "of its budgets on none. Compress with search.aim 'frontier' for an answer to any budget."
)
KEPT = 16
"""Scores tables kept in memory, the last used ones."""
COSTS: dict[str, Callable[[Cost], float]] = {
    "params": lambda cost: cost.params,
    "params_without_embeddings": lambda cost: cost.params_without_embeddings,
    "flops": lambda cost: cost.flops,
    "weight_bytes": lambda cost: cost.weight_bytes("float32"),
    "activation_bytes": lambda cost: cost.activation_bytes,
}
"""The costs that a frontier may be drawn over."""


@dataclass(frozen=True)
class Known:
    """A finished search in memory.

    Attributes:
        rows: The whole scores table.
        choosable: The candidates that a student may be chosen from.
    """

    trained: Trained
    rows: tuple[ScoredRow, ...]
    choosable: tuple[Scored, ...]


class Selections:
    """Answers from finished searches.

    Args:
        storage: Where they are.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._models: dict[str, LatencyModels] = {}
        self._lock = threading.Lock()

    def known(self, fingerprint: str) -> Known:
        """The search behind a scores table.

        Raises:
            InputError: Its artefacts have been removed.
        """
        with self._lock:
            if fingerprint in self._known:
                self._known.move_to_end(fingerprint)
                return self._known[fingerprint]
        trained = recall(self._storage, fingerprint)
        rows = read_scores(self._storage, trained.scores)
        found = Known(trained, tuple(rows), tuple(choosable(trained, rows)))
        with self._lock:
            self._known[fingerprint] = found
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        return found

    def answer(self, known: Known, request: CompressionRequest, samples: Sequence[str]) -> list[Choice] | None:
        """Answer the budgets of a request.

        Args:
            known: The search.
            request: With the budgets.
            samples: Fingerprints of the latency samples that runs on this search have measured.

        Returns:
            The choices, or None where a budget limits the latency on a target that nothing was measured on yet.
        """
        targets = {target.name: target for target in request.latency_targets}
        models: dict[str, LatencyModels] = {}
        for name in {budget.latency_target for budget in request.budgets if budget.latency_target is not None}:
            found = self._latency_models(targets[name], samples)
            if found is None:
                return None
            models[name] = found

        def latency_of(architecture: Architecture, budget: Budget) -> float:
            assert budget.latency_target is not None
            return models[budget.latency_target].of(budget.latency_percentile).predict(architecture)

        cost = known.trained.teacher.cost
        return [choose(known.choosable, budget, cost, latency_of) for budget in request.budgets]

    def _latency_models(self, target: LatencyTarget, samples: Sequence[str]) -> LatencyModels | None:
        for fingerprint in samples:
            with self._lock:
                found = self._models.get(fingerprint)
            if found is None:
                artifact = artifacts.load(self._storage, "latency-samples", fingerprint)
                found = LatencyModels.fit(LatencySamples.model_validate(artifact.summary))
                with self._lock:
                    self._models[fingerprint] = found
            if found.target == target:
                return found
        return None


def selection_request(parent: dict[str, Any], data: Any, targets: Sequence[LatencyTarget]) -> CompressionRequest:
    """The compression's request with the budgets of a selection.

    Raises:
        InputError: ``data`` is not as it should be.
    """
    if not isinstance(data, dict):
        raise InputError.of("selection", "It is not an object.", 'Send a JSON object such as {"budgets": [...]}.')
    unknown = sorted(set(data) - {"budgets", "latency_targets"})
    if unknown:
        raise InputError.of(unknown[0], "This field is not known.", "Known fields here: budgets, latency_targets.")
    if "budgets" not in data:
        raise InputError.of("budgets", "This field is missing.", "Add it to the selection.")
    own = {"latency_targets": data["latency_targets"]} if "latency_targets" in data else {}
    request, findings = with_targets(parse_request(parent | {"budgets": data["budgets"]} | own), targets)
    if findings:
        raise InputError(findings)
    return request


def scores_of(job: Job) -> str:
    """The fingerprint of a compression's scores table.

    Raises:
        InputError: It has none, or not yet.
    """
    found = job.result.artifacts.get("scores", []) if job.result else []
    if not found:
        raise InputError.of(
            "compression",
            f"{job.id} is {job.status} and has no scores yet.",
            "Ask again once it has succeeded.",
        )
    return found[0]


def frontier(known: Known, costs: Sequence[str], sequence_length: int) -> list[dict[str, Any]]:
    """The candidates that no other beats in held-out loss and all of ``costs`` at once, the cheapest first."""
    points = [(one, known.trained.teacher.cost(one.architecture, sequence_length)) for one in known.choosable]
    front = pareto_front(points, lambda point: (*(COSTS[name](point[1]) for name in costs), point[0].heldout_loss))
    return [_point(scored, cost) for scored, cost in front]


def candidates(known: Known, rows: slice, sequence_length: int) -> list[dict[str, Any]]:
    """Rows of the scores table, in its order: what was scored, how it did, and why it went."""
    return [
        {
            **_point(row.scored, known.trained.teacher.cost(row.scored.architecture, sequence_length)),
            "spread": row.scored.spread,
            "rows": row.rows,
            "rung": row.rung,
            "dropped_by": row.dropped_by,
        }
        for row in known.rows[rows]
    ]


def _point(scored: Scored, cost: Cost) -> dict[str, Any]:
    return {
        "subspace": scored.subspace,
        "architecture": scored.architecture.to_json(),
        "heldout_loss": scored.heldout_loss,
        **CostDocument.fields_of(cost),
    }
