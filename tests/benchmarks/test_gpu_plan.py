"""The plan of the GPU profile: students alone in one group, and the pieces in the order of their worth."""

from __future__ import annotations

import functools
from dataclasses import replace

from benchmarks.gpu.worth import by_worth
from benchmarks.quality import shapes
from benchmarks.quality.pieces import Piece
from benchmarks.quality.plan import Plan
from benchmarks.quality.planning import plan_of
from benchmarks.quality.profiles import PROFILES
from benchmarks.quality.questions import member_of
from benchmarks.quality.rows import Row
from tests.benchmarks.test_quality_rows import made_row
from tests.benchmarks.test_quality_shapes import TEACHERS
from workloads.shapes.architecture import Architecture
from workloads.shapes.spaces import relative_spaces

SHAPE = TEACHERS["minilm"]
GPU = replace(PROFILES["gpu"], tasks=("rte", "stsb"), seeds=(0, 1))


def _result(piece: Piece) -> dict[str, object]:
    match piece.kind:
        case "scene":
            return {"teacher": SHAPE.to_json()}
        case "search":
            members = [(space.name, one) for space in relative_spaces(SHAPE, 3) for one in space]
            losses = [1e9 / shapes.macs_of(SHAPE, one) for _, one in members]
            return {
                "survivors": [
                    {"subspace": name, "architecture": one.to_json(), "heldout_loss": loss}
                    for (name, one), loss in zip(members, losses, strict=True)
                ]
            }
        case "distil":
            return {"losses": dict.fromkeys(piece.inputs["members"], 0.5), "train_cpu_seconds": 1.0}
        case "task":
            return {"validation_score": piece.inputs["architecture"]["layers"] / 10}
    return {}


@functools.cache
def _run() -> tuple[Plan, list[Piece]]:
    """Run the pieces as the kit does, and give the last plan and the order."""
    rows: dict[str, Row] = {}
    order: list[Piece] = []
    while True:
        plan = plan_of(GPU, rows)
        missing = [piece for piece in by_worth(plan) if piece.fingerprint not in rows]
        if not missing:
            return plan, order
        piece = missing[0]
        assert all(need.fingerprint in rows for need in piece.needs)
        rows[piece.fingerprint] = made_row(piece.fingerprint, kind=piece.kind, result=_result(piece))
        order.append(piece)


def test_shapes_of_all_budgets_are_distilled_alone_in_one_group():
    plan, order = _run()
    distilled = [piece for piece in order if piece.kind == "distil" and piece.inputs["tokens"]]
    assert [piece.name for piece in distilled] == ["SuperLMs", "the students alone, together"]
    alone = [entry for entry in plan.entries if entry.role == "alone" or entry.role.startswith("hand-made")]
    assert len(alone) == 6 and {entry.fraction for entry in alone} == {1 / 4, 1 / 8}
    for entry in alone:
        assert entry.distil.fingerprint == distilled[1].fingerprint and entry.member == member_of(entry.architecture)
        (listed,) = entry.distil.inputs["members"][entry.member]["members"]
        assert Architecture.from_json(listed) == entry.architecture
    chosen = [entry for entry in plan.entries if entry.role == "chosen"]
    assert {entry.distil.name for entry in chosen} == {"SuperLMs"}


def test_the_superlms_come_first_and_later_seeds_last():
    _, order = _run()
    assert [piece.kind for piece in order[:3]] == ["scene", "distil", "search"]
    tasks = [piece for piece in order if piece.kind == "task"]
    assert [piece.inputs["seed"] for piece in tasks] == sorted(piece.inputs["seed"] for piece in tasks)
    first = [piece.name.partition(":")[0].partition(" at ")[0] for piece in tasks if piece.inputs["seed"] == 0]
    assert list(dict.fromkeys(first)) == [
        "chosen", "teacher", "short-and-wide, tried", "thin-and-deep, tried", "alone", "truncated teacher",
    ]  # fmt: skip


def test_every_piece_of_the_plan_is_run():
    plan, order = _run()
    assert {piece.fingerprint for piece in order} == set(plan.pieces) and not plan.later


def test_a_profile_that_is_not_grouped_distils_each_shape_alone():
    rows: dict[str, Row] = {}
    while new := [
        one for one in plan_of(replace(GPU, grouped=False), rows).pieces.values() if one.fingerprint not in rows
    ]:
        for piece in new:
            rows[piece.fingerprint] = made_row(piece.fingerprint, kind=piece.kind, result=_result(piece))
    plan = plan_of(replace(GPU, grouped=False), rows)
    distilled = [piece for piece in plan.pieces.values() if piece.kind == "distil" and piece.inputs["tokens"]]
    assert {len(piece.inputs["members"]) for piece in distilled} == {3, 1} and len(distilled) > 6
