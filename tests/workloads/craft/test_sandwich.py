"""The sandwich rule: which subnets a step trains, and what they cost."""

from __future__ import annotations

import statistics

import pytest

from workloads.craft.sandwich import sandwich, step_flops, subnets_of_step
from workloads.shapes.architecture import Architecture, TeacherShape, Vocabulary
from workloads.shapes.costs import student_cost
from workloads.shapes.search_space import ListedSpace, ProductSpace
from workloads.spec.request import TrainingSpec

SPACE = ProductSpace("small", (2, 3, 4), (128, 192, 256), (2.0, 3.0), None, 64, 12)
TEACHER = TeacherShape(Architecture.of_teacher(12, 768, 12, 3072), Vocabulary("bert", 30522, 512, 2))


@pytest.mark.parametrize("every", [1, 3])
def test_the_smallest_comes_in_every_nth_step_and_a_random_one_in_its_place(every: int) -> None:
    training = TrainingSpec(smallest_every=every)
    for step in range(12):
        drawn = sandwich(SPACE, training, seed=0, step=step)
        assert len(drawn) == subnets_of_step(SPACE, training) == 4
        assert drawn[0] == SPACE.largest
        assert all(one in SPACE for one in drawn)
        if step % every == 0:
            assert drawn[1] == SPACE.smallest


def test_steps_without_the_smallest_draw_uniformly() -> None:
    training = TrainingSpec(smallest_every=1000, random_subnets=0)
    drawn = [sandwich(SPACE, training, seed=0, step=step)[1] for step in range(1, 1000)]
    assert set(drawn) == set(SPACE)
    assert drawn.count(SPACE.smallest) < 3 * len(drawn) / len(SPACE)


def test_a_draw_depends_on_seed_name_and_step_alone() -> None:
    training = TrainingSpec(smallest_every=4)
    one = [sandwich(SPACE, training, seed=1, step=step) for step in range(8)]
    assert one == [sandwich(SPACE, training, seed=1, step=step) for step in range(8)]
    assert one != [sandwich(SPACE, training, seed=2, step=step) for step in range(8)]


def test_of_a_space_of_one_member_that_one_is_trained() -> None:
    only = ListedSpace("only", (SPACE.smallest,))
    assert sandwich(only, TrainingSpec(smallest_every=2), seed=0, step=1) == [SPACE.smallest]
    flops = student_cost(TEACHER, SPACE.smallest, 128).flops
    assert step_flops(only, TEACHER, TrainingSpec(sequence_length=128)) == flops


@pytest.mark.parametrize("every", [1, 5])
def test_the_cost_of_a_step_is_the_mean_over_many_steps(every: int) -> None:
    training = TrainingSpec(smallest_every=every, sequence_length=128)
    steps = range(5 * 400)
    drawn = (sandwich(SPACE, training, seed=0, step=step) for step in steps)
    mean = statistics.fmean(sum(student_cost(TEACHER, one, 128).flops for one in ones) for ones in drawn)
    assert step_flops(SPACE, TEACHER, training) == pytest.approx(mean, rel=0.02)
