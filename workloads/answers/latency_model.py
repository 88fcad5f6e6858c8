"""A predictor of latency, so that a search need not measure every candidate.

It is linear in counts that a forward's time is made of, with coefficients that cannot be negative, since each is a
time for a unit of work. A linear model is enough, for the candidates of a few sub-spaces differ by two orders of
magnitude at most and are alike in kind; it needs some twenty measured candidates where a network or a table of
operators needs thousands; and its coefficients can be read. It is fitted on the relative error: 1 ms off is nothing
for a student of 200 ms and everything for one of 2 ms. A candidate whose repeats disagree has little weight in it.

The counts hold for the target's batch and length and are a number for each of:

- ``constant``: once a forward;
- ``layers``: calling a layer's operators;
- ``matmul``: multiply-accumulates with weights; at a given batch and length also the weights that are read;
- ``attention``: multiply-accumulates between tokens; for heads of one width also the softmax;
- ``hidden``, ``inner``: values of the residual stream and behind the activation that each layer reads and writes;
- ``embedding``: values that the embeddings give.

What it predicts is checked on candidates that it was not fitted on, and a chosen student is measured all the same.
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
"""How many candidates to measure for a fit."""
DOUBTFUL_WEIGHT = 0.1
"""What a candidate whose repeats disagree counts in a fit, beside one whose repeats agree."""

_Array = np.ndarray[Any, np.dtype[np.float64]]


class LatencyModel(Part):
    """Predicts a percentile of the latency on one target and device."""

    target: LatencyTarget
    device: str
    percentile: Percentile
    milliseconds: dict[str, float] = Field(description="Milliseconds of each unit, by count.")
    error: HeldOutError | None = Field(description="None for a single candidate, which leaves nothing to fit on.")
    samples: int = Field(description="Candidates that it was fitted on.")
    doubtful: int = Field(description="Those of them whose repeats disagree.")

    def predict(self, architecture: Architecture) -> float:
        """Give the latency of an architecture, in milliseconds."""
        counts = features(architecture, self.target)
        return float(sum(self.milliseconds[name] * count for name, count in zip(FEATURES, counts, strict=True)))


def fit(measured: LatencySamples, percentile: Percentile = "p50") -> LatencyModel:
    """Fit a predictor and find its error by leaving out each candidate once."""
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
    """Count what :data:`FEATURES` names, for one forward on ``target``."""
    hidden, length = architecture.hidden_size, target.sequence_length
    tokens = target.batch_size * length
    widths = [layer.heads * layer.head_width for layer in architecture.layers]
    inners = [layer.intermediate_size for layer in architecture.layers]
    matmul = tokens * sum(4 * hidden * width + 2 * hidden * inner for width, inner in zip(widths, inners, strict=True))
    attention = tokens * 2 * length * sum(widths)
    layers = len(architecture.layers)
    return 1, layers, matmul, attention, tokens * hidden * layers, tokens * sum(inners), tokens * hidden


def candidates_to_measure(spaces: Sequence[Space], seed: int, count: int = CANDIDATES) -> list[Architecture]:
    """Choose ``count`` candidates that lie far apart, or all where there are fewer.

    The sub-spaces take turns; of each the smallest and the largest come first, then the other corners of its
    ranges, then any, the last two in an order drawn by ``seed``.
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
    """Give the ends of a space, then the other corners, then any member, some of them more than once."""
    yield from (space.smallest, space.largest)
    corners = [space.point(genes) for genes in itertools.product(*(sorted({0, size - 1}) for size in space.gene_sizes))]
    draw.shuffle(corners)
    yield from corners
    if len(space) <= LISTED:
        rest = list(space)
        draw.shuffle(rest)
        yield from rest
    else:  # far more members than are asked for, so that draws repeat rarely
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
    """Weighted least squares of the relative error, over coefficients that are not negative."""
    from scipy.optimize import nnls  # only where latency is predicted: it is slow to import

    roots = np.sqrt(weights)
    relative = rows * (roots / times)[:, None]
    scale = np.linalg.norm(relative, axis=0)  # the counts differ by ten orders of magnitude
    solved: _Array = nnls(relative / scale, roots)[0] / scale
    return solved


@dataclass(frozen=True)
class LatencyModels:
    """The predictors of both percentiles on one target."""

    p50: LatencyModel
    p95: LatencyModel

    @classmethod
    def fit(cls, measured: LatencySamples) -> LatencyModels:
        """Fit both on the same candidates."""
        return cls(fit(measured, "p50"), fit(measured, "p95"))

    @property
    def target(self) -> LatencyTarget:
        """What they predict for."""
        return self.p50.target

    def of(self, percentile: Percentile) -> LatencyModel:
        """The predictor of a percentile."""
        return self.p50 if percentile == "p50" else self.p95
