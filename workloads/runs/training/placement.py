"""Placement: the grouping of the K SuperLMs into training runs.

*Together* is one group, whose SuperLMs share one teacher forward a batch. *Apart* is a group per SuperLM; the groups
run in parallel on devices of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.sizing import Cluster, share_out, worker_needs
from workloads.craft.sandwich import step_flops
from workloads.shapes.architecture import TeacherShape
from workloads.shapes.costs import student_cost
from workloads.shapes.search_space import Space
from workloads.spec.request import TrainingSpec

PASSES = 3
"""A forward and a backward in units of a forward: a backward counts as two."""
_WORTH_IT = 1.25  # least speed-up for which *apart* is worth K times the devices


@dataclass(frozen=True)
class Placement:
    """Groups of sub-space names, and the reason of the choice."""

    groups: tuple[tuple[str, ...], ...]
    reason: str


def plan_placement(training: TrainingSpec, spaces: Sequence[Space], shape: TeacherShape, cluster: Cluster) -> Placement:
    """Divide the sub-spaces into groups. Groups in the request have been checked: each sub-space is in one of them."""
    names = [space.name for space in spaces]
    wish = training.placement
    if isinstance(wish, list):
        assert sorted(name for group in wish for name in group) == sorted(names), wish
        return Placement(tuple(tuple(group) for group in wish), "groups given in the request")
    together, apart = (tuple(names),), tuple((name,) for name in names)
    if len(names) == 1 or wish == "together":
        return Placement(together, "one sub-space" if len(names) == 1 else "asked for in the request")
    if wish == "apart":
        return Placement(apart, "asked for in the request")
    teacher = student_cost(shape, shape.architecture, training.sequence_length).flops
    units = [PASSES * step_flops(space, shape, training) / teacher for space in spaces]
    as_one, slowest = 1 + sum(units), 1 + max(units)
    counts = f"a batch costs {as_one:.1f} teacher forwards together, {slowest:.1f} in the largest group apart"
    need, gpus = len(names) * training.workers, cluster.gpus
    if gpus and cluster.holds(worker_needs(1, 1)) >= need:
        if as_one / slowest >= _WORTH_IT:
            return Placement(apart, f"{gpus} GPUs are enough for {need} workers; {counts}")
        return Placement(together, f"apart would gain too little for {need} GPUs; {counts}")
    if not gpus and cluster.holds(worker_needs(1)) >= need:
        as_one_has = share_out(cluster, workers=training.workers).cpus
        if share_out(cluster, runs=len(names), workers=training.workers).cpus == as_one_has:  # on other nodes
            if as_one / slowest >= _WORTH_IT:
                return Placement(apart, f"a worker has {as_one_has} CPUs apart as together, on other nodes; {counts}")
            return Placement(together, f"apart would gain too little for {need} workers; {counts}")
    what = f"{gpus} GPUs" if gpus else f"{cluster.cpus} CPUs shared by all groups"
    return Placement(together, f"{what}, so one teacher forward for all is cheapest; {counts}")
