"""Sandwich rule: the subnets of a SuperLM that a step trains (AutoDistil, section 3.3)."""

from __future__ import annotations

import random
import statistics

from workloads.shapes.architecture import Architecture, TeacherShape
from workloads.shapes.costs import student_cost
from workloads.shapes.search_space import Space, members_or_draws
from workloads.spec.request import TrainingSpec

_LISTED = 256  # the mean over this many candidates is within about 2 % of the whole space's


def sandwich(space: Space, training: TrainingSpec, *, seed: int, step: int) -> list[Architecture]:
    """Return the largest, the smallest and some random subnets of a step; of a space of one member, that one.

    The smallest comes in every ``training.smallest_every``-th step. In the others a further random subnet takes its
    place, so that every step has the same number of subnets. The draw depends only on the seed, the sub-space's name
    and the global step. So all workers draw the same subnets, and so does a resumed run.
    """
    if len(space) == 1:
        return [space.largest]
    draw = random.Random(f"{seed}/{space.name}/{step}")
    ends = [space.largest, space.smallest] if trains_smallest(training, step) else [space.largest]
    count = subnets_of_step(space, training)
    return ends + [space.sample(draw) for _ in range(count - len(ends))]


def trains_smallest(training: TrainingSpec, step: int) -> bool:
    """Return whether the smallest subnet is trained in a step; it then comes second."""
    return step % training.smallest_every == 0


def subnets_of_step(space: Space, training: TrainingSpec) -> int:
    """Return the number of subnets that a step trains."""
    return 1 if len(space) == 1 else 2 + training.random_subnets


def step_flops(space: Space, shape: TeacherShape, training: TrainingSpec) -> float:
    """Multiply-accumulates per sequence of the forwards of a step's subnets, in the mean over steps.

    The cost of a random subnet is the mean over the space, or over a random sample of a large space.
    """

    def flops(architecture: Architecture) -> int:
        return student_cost(shape, architecture, training.sequence_length).flops

    if len(space) == 1:
        return flops(space.largest)
    drawn = statistics.fmean(map(flops, members_or_draws(space, listed=_LISTED, draws=_LISTED)))
    share = 1 / training.smallest_every
    return flops(space.largest) + share * flops(space.smallest) + (training.random_subnets + 1 - share) * drawn
