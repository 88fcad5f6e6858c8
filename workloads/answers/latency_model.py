"""Predictor of latency, so that a search need not measure every candidate.

The predictor is linear in counts of work. Coefficients are not negative, since each is a time per unit of work. A
linear model is enough: candidates are alike in kind and differ by two orders of magnitude at most. It needs about
twenty measured candidates; a network or a table of operators needs thousands. Its coefficients can be interpreted.
The fit minimises the relative error: 1 ms matters little for a student of 200 ms and much for one of 2 ms. Candidates
whose repeats disagree get a small weight.

The counts, for the target's batch and length, are:

- ``constant``: one per forward;
- ``layers``: calls of a layer's operators;
- ``matmul``: multiply-accumulates with weights; at a given batch and length also proportional to the weights read;
- ``attention``: multiply-accumulates between tokens; for heads of one width also proportional to the softmax;
- ``hidden``, ``inner``: values of the residual stream and of the activation that each layer reads and writes;
- ``embedding``: values of the embeddings' output.

Predictions are checked on candidates left out of the fit. A chosen student is measured in any case.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from workloads.answers.latency import HeldOutError, LatencySamples, Percentile
from workloads.shapes.architecture import Architecture
from workloads.shapes.search_space import LISTED, Space, draw_genes
from workloads.spec.budgets import LatencyTarget
from workloads.spec.part import Part

FEATURES = ("constant", "layers", "matmul", "attention", "hidden", "inner", "embedding")
CANDIDATES = 20
"""Number of candidates to measure for a fit."""
DOUBTFUL_WEIGHT = 0.1
"""Weight in a fit of a candidate whose repeats disagree; others weigh 1."""

_Array = np.ndarray[Any, np.dtype[np.float64]]


class LatencyModel(Part):
    """Predictor of one percentile of the latency on one target and device."""

    target: LatencyTarget
    device: str
    percentile: Percentile
    milliseconds: dict[str, float] = Field(description="Milliseconds of each unit, by count.")
    error: HeldOutError | None = Field(description="None for a single candidate, which leaves nothing to fit on.")
    samples: int = Field(description="Candidates that it was fitted on.")
    doubtful: int = Field(description="Candidates among them whose repeats disagree.")

    def predict(self, architecture: Architecture) -> float:
        """Predict the latency of an architecture, in milliseconds."""
        counts = features(architecture, self.target)
        return float(sum(self.milliseconds[name] * count for name, count in zip(FEATURES, counts, strict=True)))


def fit(measured: LatencySamples, percentile: Percentile = "p50") -> LatencyModel:
    """Fit a predictor, and compute its error by leaving out each candidate once."""
    target = measured.target
    rows = np.array([features(Architecture.from_json(one.architecture), target) for one in measured.samples], float)
    times = np.array([one.p50_ms if percentile == "p50" else one.p95_ms for one in measured.samples], float)
    agree = [one.agrees for one in measured.samples]
    weights = np.where(agree, 1.0, DOUBTFUL_WEIGHT)
    return LatencyModel(
        target=target,
        device=measured.device,
        percentile=percentile,
        milliseconds=dict(zip(FEATURES, _solve(rows, times, weights).tolist(), strict=True)),
        error=_held_out(rows, times, weights, agree),
        samples=len(agree),
        doubtful=agree.count(False),
    )


def features(architecture: Architecture, target: LatencyTarget) -> tuple[float, ...]:
    """Compute the counts of :data:`FEATURES` for one forward on ``target``."""
    hidden, length = architecture.hidden_size, target.sequence_length
    tokens = target.batch_size * length
    widths = [layer.heads * layer.head_width for layer in architecture.layers]
    inners = [layer.intermediate_size for layer in architecture.layers]
    matmul = tokens * sum(4 * hidden * width + 2 * hidden * inner for width, inner in zip(widths, inners, strict=True))
    attention = tokens * 2 * length * sum(widths)
    layers = len(architecture.layers)
    return 1, layers, matmul, attention, tokens * hidden * layers, tokens * sum(inners), tokens * hidden


def candidates_to_measure(spaces: Sequence[Space], seed: int, count: int = CANDIDATES) -> list[Architecture]:
    """Choose ``count`` candidates that lie far apart, or all if there are fewer.

    The sub-spaces take turns. Each gives its smallest and its largest candidate first, then the other corners of its
    ranges, then any; ``seed`` draws the order of the last two groups.
    """
    draw = random.Random(seed)
    turns = [_spread(space, draw) for space in spaces]
    chosen: dict[Architecture, None] = {}
    while turns and len(chosen) < count:
        for turn in list(turns):
            one = next((one for one in turn if one not in chosen), None)
            if one is None:
                turns.remove(turn)
            elif len(chosen) < count:
                chosen[one] = None
    return list(chosen)


def _spread(space: Space, draw: random.Random) -> Iterator[Architecture]:
    """Yield the ends of a space, then the other corners, then random members; some may repeat."""
    yield from (space.smallest, space.largest)
    corners = [space.point(genes) for genes in itertools.product(*(sorted({0, size - 1}) for size in space.gene_sizes))]
    draw.shuffle(corners)
    yield from corners
    if len(space) <= LISTED:
        rest = list(space)
        draw.shuffle(rest)
        yield from rest
    else:  # far more members than needed, so that draws rarely repeat
        yield from (space.point(draw_genes(space, draw)) for _ in range(LISTED))


def _held_out(rows: _Array, times: _Array, weights: _Array, agree: Sequence[bool]) -> HeldOutError | None:
    if len(times) < 2:
        return None
    known = agree if sum(agree) > 1 else [True] * len(agree)
    errors = []
    for index in np.flatnonzero(known):
        others = np.arange(len(times)) != index
        predicted = rows[index] @ _solve(rows[others], times[others], weights[others])
        errors.append(abs(predicted - times[index]) / times[index])
    return HeldOutError(candidates=len(errors), median=float(np.median(errors)), p90=float(np.percentile(errors, 90)))


def _solve(rows: _Array, times: _Array, weights: _Array) -> _Array:
    """Solve weighted least squares of the relative error, with non-negative coefficients."""
    from scipy.optimize import nnls  # slow to import, and only needed here

    roots = np.sqrt(weights)
    relative = rows * (roots / times)[:, None]
    scale = np.linalg.norm(relative, axis=0)  # counts differ by ten orders of magnitude
    solved: _Array = nnls(relative / scale, roots)[0] / scale
    return solved


@dataclass(frozen=True)
class LatencyModels:
    """Predictors of both percentiles on one target."""

    p50: LatencyModel
    p95: LatencyModel

    @classmethod
    def fit(cls, measured: LatencySamples) -> LatencyModels:
        """Fit both predictors on the same candidates."""
        return cls(fit(measured, "p50"), fit(measured, "p95"))

    @property
    def target(self) -> LatencyTarget:
        """The predictors' target."""
        return self.p50.target

    def of(self, percentile: Percentile) -> LatencyModel:
        """Return the predictor of a percentile."""
        return self.p50 if percentile == "p50" else self.p95
