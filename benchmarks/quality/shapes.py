"""Shapes of the students that the search is compared with. Light to import."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from workloads.answers.choosing import Scored, choose
from workloads.shapes.architecture import Architecture, Layer, TeacherShape
from workloads.shapes.costs import Cost, student_cost
from workloads.shapes.search_space import Space
from workloads.spec.budgets import Budget

MACS_LENGTH = 128
"""Tokens of the sequence that multiply-accumulates are counted for."""
EQUAL = 0.03
"""Two students are equal in size if their multiply-accumulates differ by at most this share."""


def cost_of(shape: TeacherShape, one: Architecture) -> Cost:
    """Cost of a student at 128 tokens."""
    return student_cost(shape, one, MACS_LENGTH)


def macs_of(shape: TeacherShape, one: Architecture) -> int:
    """Multiply-accumulates of a student at 128 tokens."""
    return cost_of(shape, one).flops


def is_equal(macs: float, target: float) -> bool:
    """Whether a student counts as equal in size."""
    return abs(macs / target - 1) <= EQUAL


def chosen(shape: TeacherShape, candidates: Sequence[Scored], fraction: float) -> Scored:
    """Choose as the product does, for a budget of so much of the teacher's multiply-accumulates."""
    limit = int(macs_of(shape, shape.architecture) * fraction)
    budget = Budget(name="macs", max_flops=limit, sequence_length=MACS_LENGTH)
    found = choose(candidates, budget, lambda one, length: student_cost(shape, one, length)).chosen
    assert found is not None, f"No candidate has at most {fraction:g} of the teacher's multiply-accumulates."
    return found


def survivors_of(result: Mapping[str, Any]) -> list[Scored]:
    """Candidates that a search scored to the end, from the result of its piece."""
    return [
        Scored(one["subspace"], Architecture.from_json(one["architecture"]), one["heldout_loss"])
        for one in result["survivors"]
    ]


def hand_made(shape: TeacherShape, target: int) -> list[tuple[str, Architecture]]:
    """Shapes that a person would try, equal in size to ``target``, each with its kind.

    *Short-and-wide* as DistilBERT and MiniLM are: a third and half of the teacher's layers. *Thin-and-deep*: five
    sixths and all of them. Of each depth, the width whose feed-forward ratio comes nearest to the teacher's own.
    """
    depths = {"short-and-wide": (1 / 3, 1 / 2), "thin-and-deep": (5 / 6, 1.0)}
    made: dict[Architecture, str] = {}
    for kind, shares in depths.items():
        for share in shares:
            found = fitted(shape, max(1, round(shape.layers * share)), target)
            if found is not None:
                made.setdefault(found, kind)
    return [(kind, one) for one, kind in made.items()]


def fitted(shape: TeacherShape, layers: int, target: int) -> Architecture | None:
    """Stock shape of so many layers, equal in size to ``target``; None where the teacher has none."""
    ratio = shape.intermediate_size / shape.hidden_size
    best: tuple[float, Architecture] | None = None
    for heads in range(1, min(shape.heads, shape.hidden_size // shape.head_width) + 1):
        one = fitted_to(shape, layers, heads, target)
        if one is not None:
            away = abs(math.log(one.layers[0].intermediate_size / one.hidden_size / ratio))
            best = min([best, (away, one)] if best else [(away, one)], key=lambda item: item[0])
    return None if best is None else best[1]


def truncated(shape: TeacherShape, target: int) -> Architecture:
    """The teacher's first layers, as they are: the fewest that have at least ``target`` multiply-accumulates."""
    kept: list[Layer] = []
    for index, layer in enumerate(shape.architecture.layers):
        kept.append(Layer(*layer.widths, source=index))
        one = Architecture(shape.hidden_size, tuple(kept))
        if macs_of(shape, one) >= target:
            return one
    return shape.architecture


def random_choices(
    shape: TeacherShape, spaces: Iterable[Space], target: int, count: int, without: Architecture
) -> list[tuple[str, Architecture]]:
    """Draw members of the spaces that are equal in size to ``target``, each with its space.

    Where fewer are equal, the nearest in size stand in for the others.
    """
    members = [(space.name, one) for space in spaces for one in space if one != without]
    random.Random(target).shuffle(members)
    members.sort(key=lambda item: _apart(shape, item[1], target))  # stable: equal ones stay in their random order
    return members[:count]


def in_band(
    shape: TeacherShape, spaces: Iterable[Space], centre: float, width: float, count: int
) -> list[tuple[str, Architecture]]:
    """Draw members whose multiply-accumulates are within ``width`` of ``centre``, each with its space."""
    members = [(space.name, one) for space in spaces for one in space if abs(macs_of(shape, one) / centre - 1) <= width]
    return random.Random(int(centre)).sample(members, min(count, len(members)))


def spread(shape: TeacherShape, space: Space, count: int) -> list[Architecture]:
    """Members of a space from its smallest to its largest, evenly by the order of their multiply-accumulates."""
    return evenly(sorted(space, key=lambda one: macs_of(shape, one)), count)


def evenly(ordered: Sequence[Architecture], count: int) -> list[Architecture]:
    """Take so many of a list, the first and the last among them; all where there are no more."""
    count = min(count, len(ordered))
    return [ordered[round(i * (len(ordered) - 1) / max(1, count - 1))] for i in range(count)]


def _apart(shape: TeacherShape, one: Architecture, target: int) -> float:
    away = abs(math.log(macs_of(shape, one) / target))
    return 0.0 if is_equal(macs_of(shape, one), target) else away


def fitted_to(shape: TeacherShape, layers: int, heads: int, target: int) -> Architecture | None:
    """Stock shape of so many layers and heads, equal in size to ``target`` by its feed-forward width.

    None where the teacher's own feed-forward width is not enough, or none at all would be too much.
    """

    def make(neurons: int) -> Architecture:
        return Architecture.alike(
            layers=layers,
            hidden_size=heads * shape.head_width,
            heads=heads,
            head_width=shape.head_width,
            intermediate_size=neurons,
            teacher_layers=shape.layers,
        )

    least = macs_of(shape, make(1))
    each = macs_of(shape, make(2)) - least
    neurons = round((target - least) / each / 4) * 4  # a multiple of 4 keeps rows of matrices aligned
    one = make(neurons) if 1 <= neurons <= shape.intermediate_size else None
    return one if one is not None and is_equal(macs_of(shape, one), target) else None
