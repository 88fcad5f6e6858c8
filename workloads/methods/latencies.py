"""Latencies of candidates while students are chosen: measured for a few, predicted for the rest.

Predictions are corrected by the median ratio of measured to predicted latency, so that neither one disturbed
measurement nor one odd shape decides for all others.
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
"""Most candidates to measure for a budget although the corrected predictions rule them out."""
TRUSTED = 3
"""With fewer measured students than this, the uncorrected prediction (ratio 1) counts as one of the ratios."""


@dataclass
class Latencies:
    """Latencies of candidates: measured if there is a measurement, else predicted.

    Attributes:
        models: Predictors by name of the target.
        measures: Measurements by name of the target and shape.
    """

    models: dict[str, LatencyModels] = field(default_factory=dict)
    measures: dict[tuple[str, Architecture], LatencyMeasure] = field(default_factory=dict)

    @property
    def targets(self) -> list[LatencyTarget]:
        """The targets that budgets limit the latency on."""
        return [model.target for model in self.models.values()]

    def of(self, architecture: Architecture, budget: Budget) -> float:
        """Return the latency on the budget's target at its percentile, in milliseconds."""
        measure = self.measure(architecture, budget)
        if measure is not None:
            return measure.percentile_ms(budget.latency_percentile)
        return self._predict(architecture, budget) * max(1.0, statistics.median_low(self._ratios(budget)))

    def at_best(self, architecture: Architecture, budget: Budget, slack: float = 1.0) -> float:
        """Return the latency at best, in milliseconds: as measured, or predicted with the smallest measured ratio.

        A prediction is divided by ``slack``.
        """
        measure = self.measure(architecture, budget)
        if measure is not None:
            return measure.percentile_ms(budget.latency_percentile)
        least = min(self._ratios(budget))
        # Ratios within the tolerance of repeated measurements are no sign that predictions are too high.
        return self._predict(architecture, budget) * (least if least < 1 - AGREEMENT else max(1.0, least)) / slack

    def measure(self, architecture: Architecture, budget: Budget) -> LatencyMeasure | None:
        """Return the measurement on the budget's target; None if there is none."""
        return None if budget.latency_target is None else self.measures.get((budget.latency_target, architecture))

    def error(self, budget: Budget) -> float:
        """Return the 90th percentile of the relative error of predictions, at least :data:`AGREEMENT`."""
        error = self._model(budget).error
        return max(AGREEMENT, error.p90 if error is not None else 0.0)

    def prediction(self, student: Student) -> dict[str, float] | None:
        """Return the uncorrected prediction for a student, and the error of such predictions; None without a target."""
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
        """Return the ratios of measured to predicted latency, of students whose repeats agree if there are any.

        While few are measured, the ratio 1 is added, so that one slow student does not overrule the predictor.
        """
        on_target = {one: measure for (name, one), measure in self.measures.items() if name == budget.latency_target}
        agreeing = {one: measure for one, measure in on_target.items() if measure.agrees}
        ratios = [
            measure.percentile_ms(budget.latency_percentile) / self._predict(one, budget)
            for one, measure in (agreeing or on_target).items()
        ]
        return ratios if len(ratios) >= TRUSTED else [1.0, *ratios]


def is_late(budget: Budget, measure: LatencyMeasure) -> bool:
    """Whether a measured latency is over the budget's limit."""
    return (
        budget.max_latency_ms is not None and measure.percentile_ms(budget.latency_percentile) > budget.max_latency_ms
    )
