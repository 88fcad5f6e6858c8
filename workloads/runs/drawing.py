"""Pictures of a search's result: candidates, front, teacher, chosen students and infeasible budgets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from workloads.answers.choosing import Choice, Scored
from workloads.answers.latency import LatencyMeasure, Percentile
from workloads.answers.scores_table import ScoredRow
from workloads.craft.pictures import Aside, Limit, Panel, Picture, Point, frontier_picture
from workloads.methods.answering import Answer
from workloads.shapes.architecture import Architecture, TeacherShape
from workloads.shapes.costs import Cost, student_cost
from workloads.spec.budgets import Budget
from workloads.spec.part import default_length

PICTURE = "frontier.png"


@dataclass(frozen=True)
class _Mark:
    """A chosen student to mark.

    Attributes:
        polished: Whether its loss is from after polishing, and so in no row of the scores table.
        measure: Its latency, if it was measured when saved.
    """

    scored: Scored
    label: str
    polished: bool
    measure: LatencyMeasure | None = None


@dataclass(frozen=True)
class _Axis:
    """Cost axis of a panel.

    Attributes:
        limit: The field of a budget that limits this kind of cost.
        applies: Tells whether a budget's field limits exactly this cost.
    """

    name: str
    limit: str
    cost_of: Callable[[Architecture, LatencyMeasure | None], float]
    applies: Callable[[Budget], bool]
    teacher: float | None
    unit: str = ""


def draw_student(shape: TeacherShape, rows: Sequence[ScoredRow], chosen: Scored, *, polished: bool = False) -> Picture:
    """Draw the candidates for a student's card, and mark the student (at its loss after polishing, if polished)."""
    marks = [_Mark(chosen, "this student", polished)]
    return frontier_picture(
        [_panel(axis, rows, marks, ()) for axis in _counted_axes(shape, default_length(shape.longest))]
    )


def draw_answer(found: Answer, rows: Sequence[ScoredRow]) -> Picture:
    """Draw the candidates for a job's result, against counted costs and predicted latencies."""
    marks = [_Mark(one.scored, one.budget.name, one.polished, one.latency) for one in found.students]
    missed = [choice for choice in found.choices if choice.chosen is None]
    lengths = [choice.budget.sequence_length for choice in found.choices if choice.budget.max_flops is not None]
    shape = found.trained.teacher.shape
    axes = _counted_axes(shape, lengths[0] if lengths else default_length(shape.longest)) + _latency_axes(found)
    return frontier_picture(
        [_panel(axis, rows, marks, missed) for axis in axes], asides=[*_asides(found, axes, missed)]
    )


def _counted_axes(shape: TeacherShape, length: int) -> list[_Axis]:
    known: dict[Architecture, Cost] = {}

    def cost(one: Architecture) -> Cost:
        return known.setdefault(one, student_cost(shape, one, length))

    teacher = cost(shape.architecture)
    return [
        _Axis(
            f"FLOPs of {length} tokens",
            "max_flops",
            lambda one, _: cost(one).flops,
            lambda budget: budget.sequence_length == length,
            teacher.flops,
        ),
        _Axis("parameters", "max_params", lambda one, _: cost(one).params, lambda budget: True, teacher.params),
    ]


def _latency_axes(found: Answer) -> list[_Axis]:
    """Return one axis for each target and percentile that budgets limit."""
    limiting: dict[tuple[str, Percentile], Budget] = {}
    for choice in found.choices:
        if choice.budget.latency_target is not None:
            limiting.setdefault((choice.budget.latency_target, choice.budget.latency_percentile), choice.budget)
    return [_latency_axis(found, target, percentile, budget) for (target, percentile), budget in limiting.items()]


def _latency_axis(found: Answer, target: str, percentile: Percentile, budget: Budget) -> _Axis:
    def seconds(one: Architecture, measure: LatencyMeasure | None) -> float:
        if measure is not None and measure.target.name == target:
            return measure.percentile_ms(percentile) / 1e3
        return found.latencies.of(one, budget) / 1e3

    measures = [one.latency for one in found.students if one.latency is not None and one.latency.target.name == target]
    return _Axis(
        f"{percentile} of the latency on {target} (measured or predicted)",
        "max_latency_ms",
        seconds,
        lambda other: (other.latency_target, other.latency_percentile) == (target, percentile),
        # The teacher's other percentiles are not kept.
        measures[0].teacher_p50_ms / 1e3 if measures and percentile == "p50" else None,
        unit="s",
    )


def _panel(axis: _Axis, rows: Sequence[ScoredRow], marks: Sequence[_Mark], missed: Sequence[Choice]) -> Panel:
    points = [
        Point(
            cost=axis.cost_of(row.scored.architecture, None),
            loss=row.scored.heldout_loss,
            label=_label(mark for mark in marks if not mark.polished and _same(mark.scored, row.scored)),
            subspace=row.scored.subspace,
            dropped=not row.survives,
        )
        for row in rows
    ]
    for mark in marks:
        alike = [other for other in marks if other.polished and _same(other.scored, mark.scored)]
        if mark in alike[:1]:
            cost = axis.cost_of(mark.scored.architecture, mark.measure)
            label = f"{_label(alike)} (polished)"
            points.append(Point(cost, mark.scored.heldout_loss, label, mark.scored.subspace, polished=True))
    limits = []
    for choice in missed:
        if axis.limit in _broken(choice) and axis.applies(choice.budget):
            limit = _limit(axis, choice.budget)
            # With several limits, each may be met by some candidate, but not all by one.
            alone = len(choice.budget.limits | choice.budget.floors) == 1 or all(point.cost > limit for point in points)
            limits.append(Limit(limit, choice.budget.name if alone else f"{choice.budget.name} with its other limits"))
    return Panel(axis.name, tuple(points), unit=axis.unit, teacher=axis.teacher, limits=tuple(limits))


def _label(marks: Iterable[_Mark]) -> str:
    return ", ".join(mark.label for mark in marks)


def _same(one: Scored, other: Scored) -> bool:
    return (one.subspace, one.architecture) == (other.subspace, other.architecture)


def _broken(choice: Choice) -> frozenset[str]:
    """Return the limits that the nearest candidates break."""
    return frozenset().union(*(miss.misses for miss in choice.nearest))


def _limit(axis: _Axis, budget: Budget) -> float:
    return budget.limits[axis.limit] / (1e3 if axis.unit == "s" else 1)


def _asides(found: Answer, axes: Sequence[_Axis], missed: Sequence[Choice]) -> Iterable[Aside]:
    """Return the missed limits on costs without a panel."""
    for choice in missed:
        budget = choice.budget
        for name in sorted(_broken(choice) & budget.limits.keys()):  # a floor is no cost
            if not any(axis.limit == name and axis.applies(budget) for axis in axes):
                what, unit = {
                    "max_params_without_embeddings": ("parameters without embeddings", ""),
                    "max_weight_bytes": (f"of weights in {budget.weight_dtype}", "B"),
                    "max_activation_bytes": (f"of activations at {budget.sequence_length} tokens", "B"),
                    "max_flops": (f"FLOPs of {budget.sequence_length} tokens", ""),
                }[name]
                yield Aside(what, Limit(budget.limits[name], budget.name), unit)
