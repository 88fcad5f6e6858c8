"""Documents about latency: the built-in targets, and the measures on a target.

Light to import; :mod:`workloads.craft.latency` measures, :mod:`workloads.answers.latency_model` predicts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from workloads.spec.budgets import LatencyTarget
from workloads.spec.part import Part

if TYPE_CHECKING:  # clients read the documents alone
    import numpy as np

Percentile = Literal["p50", "p95"]

TRIM = 0.02
"""Share of a repeat's runs dropped at each end (at least one run), as disturbances of the machine."""
AGREEMENT = 0.1
"""Largest difference of two repeats' p50s, relative to the smaller, for the repeats to agree."""
TRIES = 3
"""Most measurements of a student until the repeats agree."""
ENOUGH = 0.75
"""Share of measured candidates whose repeats must agree before later jobs reuse the measurements."""

BUILT_IN_TARGETS: dict[str, LatencyTarget] = {
    target.name: target
    for target in (
        LatencyTarget(name="cpu-1"),
        LatencyTarget(name="cpu-1-compiled", runtime="compiled"),
        LatencyTarget(name="cpu-1-onnx", runtime="onnx"),
        LatencyTarget(name="cpu-4", threads=4),
    )
}
"""Built-in targets: one sequence of 128 tokens (or the teacher's longest input), float32, any node; on one core
(eager, compiled, ONNX Runtime) or on four."""


class LatencyMeasure(Part):
    """Latency of a student and its teacher on a target; times are milliseconds of one forward."""

    target: LatencyTarget
    p50_ms: float = Field(gt=0, description="Median over the runs of both repeats.")
    p95_ms: float = Field(gt=0)
    spread: float = Field(ge=0, description="Interquartile range over the median.")
    repeats_p50_ms: list[float] = Field(description="Median of each repeat.")
    agrees: bool = Field(description="Whether the repeats' medians, of student and teacher, agree within 10 %.")
    tries: int = Field(1, ge=1, description="Number of measurements; another one follows while the repeats disagree.")
    teacher_p50_ms: float = Field(gt=0)
    teacher_repeats_p50_ms: list[float]
    speed_up: float = Field(gt=0, description="The teacher's median over the student's.")
    device: str = Field(description="Model of the CPU or GPU.")
    versions: dict[str, str]
    measured_at: str

    def percentile_ms(self, percentile: Percentile) -> float:
        """Return a percentile that a budget may limit, in milliseconds."""
        return self.p50_ms if percentile == "p50" else self.p95_ms


class LatencySample(Part):
    """Latency of one candidate, to fit a predictor; its weights are untrained, since they do not affect latency."""

    architecture: dict[str, Any]
    p50_ms: float = Field(gt=0)
    p95_ms: float = Field(gt=0)
    agrees: bool


class LatencySamples(Part):
    """Latencies of candidates on one device, to fit a predictor."""

    target: LatencyTarget
    samples: list[LatencySample]
    device: str
    versions: dict[str, str]
    measured_at: str

    @property
    def settled(self) -> bool:
        """Whether the repeats of enough candidates agree for later jobs to reuse the measurements."""
        return sum(one.agrees for one in self.samples) >= ENOUGH * len(self.samples)


class HeldOutError(Part):
    """Relative error on candidates left out of the fit, each once.

    Candidates whose repeats disagree do not count: their latency is not known. If fewer than two agree, all count.
    """

    candidates: int
    median: float
    p90: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Summary of many runs; see :class:`LatencyMeasure`."""

    p50_ms: float
    p95_ms: float
    spread: float
    repeats_p50_ms: tuple[float, ...]
    agrees: bool


def summarise(repeats: Sequence[Sequence[float]]) -> Summary:
    """Trim and summarise the runs of each repeat, in milliseconds."""
    import numpy as np

    kept = [_trimmed(runs) for runs in repeats]
    together = np.concatenate(kept)
    low, middle, high, slow = np.percentile(together, [25, 50, 75, 95])
    medians = tuple(float(np.median(runs)) for runs in kept)
    agrees = max(medians) <= (1 + AGREEMENT) * min(medians)
    return Summary(float(middle), float(slow), float((high - low) / middle), medians, agrees)


def summarise_closest(repeats: Sequence[Sequence[float]]) -> Summary:
    """Summarise the two repeats with the closest medians; a disturbed repeat has no close neighbour."""
    assert len(repeats) > 1
    pairs = [summarise(pair) for pair in itertools.combinations(repeats, 2)]
    return min(pairs, key=lambda pair: max(pair.repeats_p50_ms) / min(pair.repeats_p50_ms))


def settled(measure: Callable[[], LatencyMeasure], tries: int = TRIES) -> LatencyMeasure:
    """Measure until the repeats agree, at most ``tries`` times; if they never agree, return the median measure."""
    found = [measure()]
    while not found[-1].agrees and len(found) < tries:
        found.append(measure())
    ordered = sorted(found, key=lambda one: one.p50_ms)
    given = found[-1] if found[-1].agrees else ordered[len(ordered) // 2]
    return given.model_copy(update={"tries": len(found)})


def known_targets(own: Iterable[LatencyTarget] = ()) -> dict[str, LatencyTarget]:
    """Return all targets by name: the built-in ones and ``own``, which wins on equal names."""
    return BUILT_IN_TARGETS | {target.name: target for target in own}


def _trimmed(runs: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    import numpy as np

    cut = max(1, round(TRIM * len(runs)))
    assert len(runs) > 2 * cut, len(runs)
    return np.sort(np.asarray(runs, float))[cut:-cut]
