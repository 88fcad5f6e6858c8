from __future__ import annotations

import pytest

from benchmarks.quality import shapes
from workloads.answers.choosing import Scored
from workloads.shapes.architecture import Architecture, TeacherShape, Vocabulary
from workloads.shapes.spaces import relative_spaces

VOCABULARY = Vocabulary("bert", 30522, 512, 2)
TEACHERS = {
    "minilm": TeacherShape(Architecture.of_teacher(6, 384, 12, 1536), VOCABULARY),
    "base": TeacherShape(Architecture.of_teacher(12, 768, 12, 3072), VOCABULARY),
    "narrow": TeacherShape(Architecture.of_teacher(12, 384, 12, 1536), VOCABULARY),
}
FRACTIONS = (1 / 2, 1 / 3, 1 / 4, 1 / 6, 1 / 8)


def _target(shape: TeacherShape, fraction: float) -> int:
    return int(fraction * shapes.macs_of(shape, shape.architecture))


@pytest.mark.parametrize("fraction", FRACTIONS)
@pytest.mark.parametrize("name", TEACHERS)
def test_hand_made_students_are_equal_in_size_and_load_as_stock_classes(name, fraction):
    shape = TEACHERS[name]
    target = _target(shape, fraction)
    found = shapes.hand_made(shape, target)
    assert {kind for kind, _ in found} == {"short-and-wide", "thin-and-deep"}
    for _, one in found:
        assert abs(shapes.macs_of(shape, one) / target - 1) <= 0.03
        assert one.stock
        assert one.hidden_size <= shape.hidden_size
        assert one.layers[0].intermediate_size <= shape.intermediate_size
    depths = {kind: [len(one.layers) for other, one in found if other == kind] for kind, _ in found}
    assert max(depths["short-and-wide"]) < min(depths["thin-and-deep"])


def test_no_shape_is_made_where_the_teacher_has_none_of_that_size():
    shape = TEACHERS["minilm"]
    assert shapes.fitted(shape, 1, _target(shape, 1 / 2)) is None  # wider than the teacher


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_the_truncated_teacher_has_the_fewest_first_layers_that_are_no_smaller(fraction):
    shape = TEACHERS["minilm"]
    target = _target(shape, fraction)
    one = shapes.truncated(shape, target)
    assert one.labels == tuple(range(len(one.layers)))
    assert shapes.macs_of(shape, one) >= target
    if len(one.layers) > 1:
        shorter = Architecture(one.hidden_size, one.layers[:-1])
        assert shapes.macs_of(shape, shorter) < target


def test_random_choices_are_equal_in_size_while_there_are_such():
    shape = TEACHERS["minilm"]
    spaces = relative_spaces(shape, 3)
    without = spaces[1].point((1, 0, 1))
    target = shapes.macs_of(shape, without)
    found = shapes.random_choices(shape, spaces, target, 50, without)
    equal = [shapes.is_equal(shapes.macs_of(shape, one), target) for _, one in found]
    whole = sum(shapes.is_equal(shapes.macs_of(shape, one), target) for space in spaces for one in space) - 1
    assert equal == [True] * whole + [False] * (50 - whole)
    assert without not in {one for _, one in found}
    assert found == shapes.random_choices(shape, spaces, target, 50, without)
    away = [abs(shapes.macs_of(shape, one) / target - 1) for _, one in found[whole:]]
    assert max(away[:5]) < max(away[-5:])


def test_shapes_of_a_band_are_within_it():
    shape = TEACHERS["minilm"]
    spaces = relative_spaces(shape, 3)
    centre = _target(shape, 1 / 8)
    found = shapes.in_band(shape, spaces, centre, 0.15, 6)
    assert len(found) == len(set(found)) == 6
    assert all(0.85 <= shapes.macs_of(shape, one) / centre <= 1.15 for _, one in found)
    assert len(shapes.in_band(shape, spaces, centre, 0.0001, 6)) < 6


def test_shapes_are_spread_from_the_smallest_to_the_largest():
    shape = TEACHERS["minilm"]
    space = relative_spaces(shape, 3)[1]
    found = shapes.spread(shape, space, 3)
    macs = [shapes.macs_of(shape, one) for one in space]
    assert shapes.macs_of(shape, found[0]) == min(macs)
    assert shapes.macs_of(shape, found[-1]) == max(macs)
    assert len(shapes.spread(shape, space, 10**6)) == len(space)


def test_the_chosen_student_is_the_best_within_the_budget():
    shape = TEACHERS["minilm"]
    small, base = relative_spaces(shape, 3)[1:]
    candidates = [Scored("small", small.smallest, 0.5), Scored("small", small.point((0, 0, 1)), 0.4)]
    candidates.append(Scored("base", base.largest, 0.1))
    assert shapes.chosen(shape, candidates, 1 / 4) is candidates[1]
    with pytest.raises(AssertionError, match="No candidate"):
        shapes.chosen(shape, candidates, 1 / 100)
