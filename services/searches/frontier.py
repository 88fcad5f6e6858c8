"""Candidates and Pareto front of a finished search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.jobs.records import Job
from services.searches.finished import Known, Searches
from workloads.answers.choosing import Scored, over_best
from workloads.answers.frontier import pareto_front
from workloads.answers.latency import Percentile
from workloads.answers.latency_model import LatencyModel
from workloads.documents.job_folder import CostDocument
from workloads.shapes.architecture import Architecture
from workloads.shapes.costs import Cost
from workloads.spec.errors import InputError
from workloads.spec.lengths import too_long
from workloads.spec.part import default_length

COSTS: dict[str, Callable[[Cost], float]] = {
    "params": lambda cost: cost.params,
    "params_without_embeddings": lambda cost: cost.params_without_embeddings,
    "flops": lambda cost: cost.flops,
    "weight_bytes": lambda cost: cost.weight_bytes("float32"),
    "activation_bytes": lambda cost: cost.activation_bytes,
}
"""Counted costs, by name."""
LATENCY = "latency"
"""Name of the measured cost; it is predicted for candidates that were not measured."""


@dataclass(frozen=True)
class LatencyAxis:
    """Latencies of a search's candidates on one target.

    Attributes:
        model: Predictor for the candidates that were not measured.
        measured_ms: Latencies of the measured candidates.
    """

    model: LatencyModel
    measured_ms: Mapping[Architecture, float]

    def of(self, architecture: Architecture) -> float:
        """Latency of a candidate in milliseconds, measured or predicted."""
        known = self.measured_ms.get(architecture)
        return self.model.predict(architecture) if known is None else known


def latency_axis(searches: Searches, jobs: Sequence[Job], name: str | None, percentile: Percentile) -> LatencyAxis:
    """Collect the latencies that a compression's jobs have measured on a target.

    Args:
        searches: The finished searches.
        jobs: The compression, and its selections.
        name: Name of the target; may be None if there is only one.
        percentile: The percentile of the latencies.

    Raises:
        InputError: Nothing was measured on that target, or the target is ambiguous.
    """
    found = list(searches.sampled(jobs))
    names = sorted({one.models.target.name for one in found})
    known = f"latency was measured on {', '.join(names)}" if names else "latency was measured on no target"
    select = "make a selection with a budget that limits latency there; its run measures"
    if name is None and len(names) != 1:
        raise InputError.of(
            "latency_target",
            f"A latency target must be named; {known}.",
            "Name one of these." if names else f"First {select}.",
        )
    sampled = next((one for one in found if name in (None, one.models.target.name)), None)
    if sampled is None:
        remedy = f"Use one of these, or {select}." if names else f"First {select}."
        raise InputError.of("latency_target", f"No latency was measured on {name!r}; {known}.", remedy)
    # The measure of an exported student, taken beside the teacher, replaces the one for the predictor.
    measured = {
        Architecture.from_json(one.architecture): one.p50_ms if percentile == "p50" else one.p95_ms
        for one in sampled.samples.samples
        if one.agrees
    }
    for student in (student for job in jobs if job.result for student in job.result.students):
        if student.latency is not None and student.latency.target == sampled.models.target:
            shape = Architecture.from_json(student.architecture)
            measured[shape] = student.latency.percentile_ms(percentile)
    return LatencyAxis(sampled.models.of(percentile), measured)


def length_of(known: Known, sequence_length: int | None) -> int:
    """Return the sequence length of the costs: the given one, or the default for the teacher.

    Raises:
        InputError: The length is more than the search's students can read.
    """
    longest = known.trained.teacher.shape.longest
    if sequence_length is None:
        return default_length(longest)
    if sequence_length > longest:
        raise InputError([too_long("sequence_length", sequence_length, longest)])
    return sequence_length


def frontier(
    known: Known, costs: Sequence[str], sequence_length: int, latency: LatencyAxis | None = None
) -> list[dict[str, Any]]:
    """Compute the Pareto front of held-out loss and all of ``costs``, the cheapest first."""

    def figures(scored: Scored) -> tuple[float, ...]:
        cost = known.cost_of(scored.architecture, sequence_length)
        return (*(_figure(name, scored, cost, latency) for name in costs), scored.heldout_loss)

    front = pareto_front(known.choosable, figures)
    over = over_best([scored.heldout_loss for scored in front])
    return [
        {**_point(known, scored, sequence_length), "over_best": one, **_latency_of(scored, latency)}
        for scored, one in zip(front, over, strict=True)
    ]


def candidates(known: Known, rows: slice, sequence_length: int) -> list[dict[str, Any]]:
    """Return rows of the scores table, in its order, with losses and the reasons why candidates were dropped."""
    return [
        {
            **_point(known, row.scored, sequence_length),
            "spread": row.scored.spread,
            "rows": row.rows,
            "rung": row.rung,
            "dropped_by": row.dropped_by,
        }
        for row in known.rows[rows]
    ]


def _figure(name: str, scored: Scored, cost: Cost, latency: LatencyAxis | None) -> float:
    if name != LATENCY:
        return COSTS[name](cost)
    assert latency is not None
    return latency.of(scored.architecture)


def _latency_of(scored: Scored, latency: LatencyAxis | None) -> dict[str, Any]:
    if latency is None:
        return {}
    predicted = scored.architecture not in latency.measured_ms
    return {"latency_ms": latency.of(scored.architecture), "latency_predicted": predicted}


def _point(known: Known, scored: Scored, sequence_length: int) -> dict[str, Any]:
    return {
        "subspace": scored.subspace,
        "architecture": scored.architecture.to_json(),
        "heldout_loss": scored.heldout_loss,
        "fidelity": None if scored.fidelity is None else dict(scored.fidelity),
        **CostDocument.fields_of(known.cost_of(scored.architecture, sequence_length)),
    }
