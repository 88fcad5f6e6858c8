"""Placement: the grouping of the SuperLMs, and its reason."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.sizing import Cluster, Node
from workloads.craft.sandwich import step_flops
from workloads.runs.training.placement import plan_placement
from workloads.shapes.architecture import Architecture, TeacherShape, Vocabulary
from workloads.shapes.search_space import ProductSpace
from workloads.shapes.spaces import paper_spaces
from workloads.spec.request import TrainingSpec

_TEACHER = TeacherShape(Architecture.of_teacher(12, 768, 12, 3072), Vocabulary("bert", 30522, 512, 2))
_TINY, _SMALL, _BASE = paper_spaces()
_TOGETHER, _APART = (("tiny", "small", "base"),), (("tiny",), ("small",), ("base",))


def _plan(gpus: int = 0, cpus: int = 8, spaces: list[ProductSpace] | None = None, **training: Any) -> Any:
    spec = TrainingSpec(**training)
    return plan_placement(
        spec, spaces or [_TINY, _SMALL, _BASE], _TEACHER, Cluster((Node("one", {"CPU": cpus, "GPU": gpus}),))
    )


@pytest.mark.parametrize(("wish", "groups"), [("together", _TOGETHER), ("apart", _APART)])
@pytest.mark.parametrize("gpus", [0, 8])
def test_what_the_request_asks_for_is_done_whatever_the_cluster_has(
    wish: str, groups: tuple[tuple[str, ...], ...], gpus: int
) -> None:
    plan = _plan(gpus, placement=wish)
    assert (plan.groups, plan.reason) == (groups, "asked for in the request")


def test_groups_given_in_the_request_are_taken_as_they_are() -> None:
    plan = _plan(placement=[["base"], ["small", "tiny"]])
    assert plan.groups == (("base",), ("small", "tiny"))
    assert plan.reason == "groups given in the request"


def test_given_groups_that_leave_a_sub_space_out_are_a_bug_by_now() -> None:
    with pytest.raises(AssertionError):
        _plan(placement=[["base"], ["small"]])


def test_a_single_sub_space_is_one_group() -> None:
    plan = _plan(8, spaces=[_SMALL])
    assert (plan.groups, plan.reason) == ((("small",),), "one sub-space")


def test_without_gpus_all_go_together_and_the_reason_gives_the_cpus_and_the_cost() -> None:
    plan = _plan(cpus=6)
    assert plan.groups == _TOGETHER
    assert plan.reason == (
        "6 CPUs shared by all groups, so one teacher forward for all is cheapest; "
        f"a batch costs {_together():.1f} teacher forwards together, {_largest():.1f} in the largest group apart"
    )


def test_too_few_gpus_for_a_group_each_keep_all_together() -> None:
    plan = _plan(gpus=2)
    assert plan.groups == _TOGETHER
    assert plan.reason.startswith("2 GPUs, so one teacher forward for all is cheapest; ")
    assert f"{_together():.1f}" in plan.reason


def test_gpus_enough_are_not_spent_where_one_sub_space_is_most_of_the_work() -> None:
    plan = _plan(gpus=2, spaces=[_TINY, _BASE])
    tiny, _, base = _units()
    assert (1 + tiny + base) / (1 + base) < 1.25
    assert plan.groups == (("tiny", "base"),)
    assert plan.reason.startswith("apart would gain too little for 2 GPUs; ")
    assert f"{1 + tiny + base:.1f} teacher forwards together, {1 + base:.1f}" in plan.reason


@pytest.mark.parametrize(("gpus", "workers", "apart"), [(3, 1, True), (2, 1, False), (6, 2, True), (5, 2, False)])
def test_like_sub_spaces_go_apart_as_soon_as_every_worker_has_a_gpu(gpus: int, workers: int, apart: bool) -> None:
    alike = [ProductSpace(name, (12,), (768,), (4.0,), None, 64, 12) for name in ("a", "b", "c")]
    plan = _plan(gpus, spaces=alike, workers=workers)
    assert plan.groups == ((("a",), ("b",), ("c",)) if apart else (("a", "b", "c"),))
    if apart:
        assert plan.reason.startswith(f"{gpus} GPUs are enough for {3 * workers} workers; ")
        # Of a space of one member a step trains that one: 3 forwards' worth each, and the teacher's forward.
        assert "10.0 teacher forwards together, 4.0 in the largest group apart" in plan.reason


def test_sub_spaces_go_apart_where_each_finds_a_node_as_large_as_they_would_share() -> None:
    alike = [ProductSpace(name, (12,), (768,), (4.0,), None, 64, 12) for name in ("a", "b", "c")]
    for nodes, groups in (([16] * 4, 3), ([16] * 2, 1), ([16, 4, 4], 1), ([1] * 3, 3), ([16], 1)):
        cluster = Cluster(tuple(Node(f"node-{i}", {"CPU": cpus}) for i, cpus in enumerate(nodes)))
        plan = plan_placement(TrainingSpec(), alike, _TEACHER, cluster)
        assert len(plan.groups) == groups, (nodes, plan.reason)
    assert "shared by all groups" in plan.reason


def _units() -> list[float]:
    teacher = ProductSpace("teacher", (12,), (768,), (4.0,), None, 64, 12)
    forward = step_flops(teacher, _TEACHER, TrainingSpec())
    return [3 * step_flops(space, _TEACHER, TrainingSpec()) / forward for space in (_TINY, _SMALL, _BASE)]


def _together() -> float:
    return 1 + sum(_units())


def _largest() -> float:
    return 1 + max(_units())
