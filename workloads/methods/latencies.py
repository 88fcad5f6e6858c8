"""What is known of the candidates' latencies while students are chosen: measured of a few, predicted of the rest.

A prediction is corrected by what was measured: by the middle of its ratios to the predictions, so that neither one
disturbed measure nor one odd shape speaks for all others.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from workloads.answers.latency import AGREEMENT, LatencyMeasure
from workloads.answers.latency_model import LatencyModel, LatencyModels
from workloads.methods.stages import Student
from workloads.shapes.architecture import Architecture
from workloads.spec.budgets import Budget, LatencyTarget

LOOKS = 3
"""Students that are measured for a budget, at most, though the corrected predictions say that they fail it."""
TRUSTED = 3
"""So many measured students correct a predictor without its having a voice."""


@dataclass
class Latencies:
    """Latencies of candidates: measured where they were, predicted elsewhere.

    Attributes:
        models: By name of the target, one a percentile.
        measures: By name of the target and shape.
    """

    models: dict[str, LatencyModels] = field(default_factory=dict)
    measures: dict[tuple[str, Architecture], LatencyMeasure] = field(default_factory=dict)

    @property
    def targets(self) -> list[LatencyTarget]:
        """The targets that budgets limit the latency on."""
        return [model.target for model in self.models.values()]

    def of(self, architecture: Architecture, budget: Budget) -> float:
        """Milliseconds on the budget's target, at its percentile."""
        measure = self.measure(architecture, budget)
        if measure is not None:
            return measure.percentile_ms(budget.latency_percentile)
        return self._predict(architecture, budget) * max(1.0, statistics.median_low(self._ratios(budget)))

    def at_best(self, architecture: Architecture, budget: Budget, slack: float = 1.0) -> float:
        """Milliseconds that a candidate may well take: as measured, or predicted by the luckiest that was measured.

        A prediction is divided by ``slack``.
        """
        measure = self.measure(architecture, budget)
        if measure is not None:
            return measure.percentile_ms(budget.latency_percentile)
        least = min(self._ratios(budget))
        # Measures of one student may differ by that much, which is no reason to look at what is predicted to be late.
        return self._predict(architecture, budget) * (least if least < 1 - AGREEMENT else max(1.0, least)) / slack

    def measure(self, architecture: Architecture, budget: Budget) -> LatencyMeasure | None:
        """What was measured on the budget's target, None where nothing was."""
        return None if budget.latency_target is None else self.measures.get((budget.latency_target, architecture))

    def error(self, budget: Budget) -> float:
        """How far predictions are off, relative, nine times of ten; no less than measures of one student differ."""
        error = self._model(budget).error
        return max(AGREEMENT, error.p90 if error is not None else 0.0)

    def prediction(self, student: Student) -> dict[str, float] | None:
        """What was predicted of a student before it was measured, and how good such predictions are."""
        if student.budget.latency_target is None:
            return None
        model = self._model(student.budget)
        given = {"predicted_ms": model.predict(student.scored.architecture)}
        if model.error is not None:
            given |= {"median_error": model.error.median, "p90_error": model.error.p90}
        return given | {"samples": model.samples, "doubtful_samples": model.doubtful}

    def _model(self, budget: Budget) -> LatencyModel:
        assert budget.latency_target is not None
        return self.models[budget.latency_target].of(budget.latency_percentile)

    def _predict(self, architecture: Architecture, budget: Budget) -> float:
        return self._model(budget).predict(architecture)

    def _ratios(self, budget: Budget) -> list[float]:
        """How much slower measured students were than predicted; of those whose repeats agree, where there are any.

        The predictor, which was fitted on many, has a voice among the first few: one slow student does not overrule it.
        """
        on_target = {one: measure for (name, one), measure in self.measures.items() if name == budget.latency_target}
        agreeing = {one: measure for one, measure in on_target.items() if measure.agrees}
        ratios = [
            measure.percentile_ms(budget.latency_percentile) / self._predict(one, budget)
            for one, measure in (agreeing or on_target).items()
        ]
        return ratios if len(ratios) >= TRUSTED else [1.0, *ratios]


def is_late(budget: Budget, measure: LatencyMeasure) -> bool:
    """Whether what was measured is over the budget's limit."""
    return (
        budget.max_latency_ms is not None and measure.percentile_ms(budget.latency_percentile) > budget.max_latency_ms
    )
