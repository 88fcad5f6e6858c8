"""Pictures of what a search found: candidates, front, teacher, the chosen and the budgets that nothing meets."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from workloads.architecture import Architecture, TeacherShape
from workloads.budgets import Budget, LatencyTarget
from workloads.choosing import Scored
from workloads.costs import student_cost, teacher_architecture
from workloads.craft.pictures import Limit, Panel, Picture, Point, frontier_picture
from workloads.methods.answering import Answer
from workloads.scores_table import ScoredRow

PICTURE = "frontier.png"
_LENGTH = 128


def draw_student(shape: TeacherShape, rows: Sequence[ScoredRow], chosen: Scored) -> Picture:
    """Draw the candidates for a student's card, with the student marked."""
    labels = {(chosen.subspace, chosen.architecture): "this student"}
    return frontier_picture(_counted_panels(shape, rows, labels, (), _LENGTH))


def draw_answer(found: Answer, rows: Sequence[ScoredRow]) -> Picture:
    """Draw the candidates for a job's result: against counted costs, and predicted latency where there is one."""
    shape = found.trained.teacher.shape
    labels: dict[tuple[str, Architecture], str] = {}
    for student in found.students:
        key = (student.scored.subspace, student.scored.architecture)
        labels[key] = f"{labels[key]}, {student.budget.name}" if key in labels else student.budget.name
    missed = [choice.budget for choice in found.choices if choice.chosen is None]
    lengths = [choice.budget.sequence_length for choice in found.choices if choice.budget.max_flops is not None]
    panels = _counted_panels(shape, rows, labels, missed, lengths[0] if lengths else _LENGTH)
    panels += [_latency_panel(found, rows, labels, target) for target in found.latencies.targets]
    return frontier_picture(panels)


def _counted_panels(
    shape: TeacherShape,
    rows: Sequence[ScoredRow],
    labels: Mapping[tuple[str, Architecture], str],
    missed: Sequence[Budget],
    length: int,
) -> list[Panel]:
    teacher = student_cost(shape, teacher_architecture(shape), length)
    costs = [student_cost(shape, row.scored.architecture, length) for row in rows]
    flops = [
        Limit(float(budget.max_flops), budget.name)
        for budget in missed
        if budget.max_flops is not None and budget.sequence_length == length
    ]
    params = [Limit(float(budget.max_params), budget.name) for budget in missed if budget.max_params is not None]
    return [
        Panel(name, tuple(map(_point, rows, values, itertools.repeat(labels))), teacher=own, limits=tuple(limits))
        for name, values, own, limits in (
            (f"FLOPs of {length} tokens", [cost.flops for cost in costs], teacher.flops, flops),
            ("parameters", [cost.params for cost in costs], teacher.params, params),
        )
    ]


def _latency_panel(
    found: Answer,
    rows: Sequence[ScoredRow],
    labels: Mapping[tuple[str, Architecture], str],
    target: LatencyTarget,
) -> Panel:
    budget = next(choice.budget for choice in found.choices if choice.budget.latency_target == target.name)
    points = [_point(row, found.latencies.of(row.scored.architecture, budget) / 1e3, labels) for row in rows]
    teachers = [s.latency.teacher_p50_ms / 1e3 for s in found.students if s.latency and s.latency.target == target]
    limits = [
        Limit(choice.budget.max_latency_ms / 1e3, choice.budget.name)
        for choice in found.choices
        if choice.chosen is None and choice.budget.latency_target == target.name and choice.budget.max_latency_ms
    ]
    name = f"latency on {target.name} (measured or predicted)"
    return Panel(name, tuple(points), unit="s", teacher=teachers[0] if teachers else None, limits=tuple(limits))


def _point(row: ScoredRow, cost: float, labels: Mapping[tuple[str, Architecture], str]) -> Point:
    scored = row.scored
    return Point(
        cost=cost,
        loss=scored.heldout_loss,
        label=labels.get((scored.subspace, scored.architecture), ""),
        subspace=scored.subspace,
        dropped=not row.survives,
    )
