"""Sandwich rule: the subnets of a SuperLM that a step trains (AutoDistil, section 3.3)."""

from __future__ import annotations

import random

from workloads.shapes.architecture import Architecture
from workloads.shapes.search_space import Space


def sandwich(space: Space, *, seed: int, step: int, randoms: int) -> list[Architecture]:
    """Return the largest, the smallest and ``randoms`` random subnets of a step; of a space of one member, that one.

    The draw depends only on the seed, the sub-space's name and the global step. So all workers draw the same subnets,
    and so does a resumed run.
    """
    if len(space) == 1:
        return [space.largest]
    draw = random.Random(f"{seed}/{space.name}/{step}")
    return [space.largest, space.smallest, *(space.sample(draw) for _ in range(randoms))]
