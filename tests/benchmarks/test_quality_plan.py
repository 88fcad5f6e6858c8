"""Plans of the bench, from made-up rows: which pieces there are, and what decides them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.quality import shapes
from benchmarks.quality.pieces import Piece
from benchmarks.quality.plan import Plan
from benchmarks.quality.planning import deciding, only_named, plan_of
from benchmarks.quality.profiles import PROFILES, Profile
from benchmarks.quality.questions import member_of
from benchmarks.quality.rows import Row
from tests.benchmarks.test_quality_rows import made_row
from tests.benchmarks.test_quality_shapes import TEACHERS
from workloads.shapes.architecture import Architecture
from workloads.shapes.spaces import relative_spaces

SHAPE = TEACHERS["minilm"]
TWO_CORES = PROFILES["two-cores"]
SUPERLM_SECONDS, SEARCH_SECONDS, ALONE_SECONDS = 900.0, 90.0, 110.0


def _result(piece: Piece) -> dict[str, object]:
    """Give a result that prefers deep students on rows set aside, and short ones on validation rows."""
    match piece.kind:
        case "scene":
            return {"teacher": SHAPE.to_json()}
        case "search":
            members = [(space.name, one) for space in relative_spaces(SHAPE, 3) for one in space]
            return {
                "survivors": [
                    {"subspace": name, "architecture": one.to_json(), "heldout_loss": 1e9 / shapes.macs_of(SHAPE, one)}
                    for name, one in members
                ]
            }
        case "distil":
            seconds = SUPERLM_SECONDS if len(piece.inputs["members"]) == 3 else ALONE_SECONDS
            return {"losses": dict.fromkeys(piece.inputs["members"], 0.5), "train_cpu_seconds": seconds}
        case "task":
            layers = piece.inputs["architecture"]["layers"]
            return {"validation_score": layers / 10, "score": 1 - layers / 10}
    return {}


def _filled(profile: Profile) -> tuple[Plan, dict[str, Row]]:
    rows: dict[str, Row] = {}
    while True:
        plan = plan_of(profile, rows)
        new = [piece for piece in plan.pieces.values() if piece.fingerprint not in rows]
        if not new:
            return plan, rows
        for piece in new:
            seconds = SEARCH_SECONDS if piece.kind == "search" else 1.0
            made = made_row(piece.fingerprint, kind=piece.kind, result=_result(piece), cpu_seconds=seconds)
            rows[piece.fingerprint] = made


def test_the_teacher_is_known_first_and_the_chosen_shape_after_the_search():
    first = plan_of(TWO_CORES, {})
    assert [piece.kind for piece in first.pieces.values()] == ["scene"]
    assert first.later == ["everything that depends on the teacher's shape"]
    plan, rows = _filled(TWO_CORES)
    assert not plan.later
    search = next(piece for piece in plan.pieces.values() if piece.kind == "search")
    before = plan_of(TWO_CORES, {name: row for name, row in rows.items() if name != search.fingerprint})
    assert before.later == ["the students at 0.25, 0.125"]
    assert {entry.role for entry in before.entries} == {"teacher"}
    assert search.fingerprint in before.pieces


def test_needs_come_before_the_pieces_that_need_them():
    for name in ("two-cores", "baselines", "questions"):
        plan, _ = _filled(PROFILES[name])
        seen: set[str] = set()
        for piece in plan.pieces.values():
            assert {need.fingerprint for need in piece.needs} <= seen, piece.name
            seen.add(piece.fingerprint)


def test_every_student_that_is_equal_in_size_is_so():
    plan, _ = _filled(TWO_CORES)
    for fraction in TWO_CORES.fractions:
        entries = [entry for entry in plan.entries if entry.fraction == fraction]
        (chosen,) = [entry for entry in entries if entry.role == "chosen"]
        target = shapes.macs_of(SHAPE, chosen.architecture)
        assert target <= fraction * shapes.macs_of(SHAPE, SHAPE.architecture)
        for entry in entries:
            if entry.role == "alone" or entry.role.startswith("hand-made"):
                assert shapes.is_equal(shapes.macs_of(SHAPE, entry.architecture), target), entry.role
                assert entry.distil.inputs["tokens"] == chosen.distil.inputs["tokens"]


def test_hand_made_students_are_picked_on_rows_set_aside():
    plan, _ = _filled(TWO_CORES)
    picked = [entry for entry in plan.entries if entry.role.startswith("hand-made") and entry.fraction == 1 / 4]
    assert [len(entry.architecture.layers) for entry in picked] == [6, 5]  # short ones do better on validation rows
    assert all(len(entry.tasks) == 4 * 3 for entry in picked)
    tried = [piece for piece in plan.pieces.values() if piece.kind == "task" and "tried" in piece.name]
    assert {piece.inputs["seed"] for piece in tried} == {0}
    assert {piece.inputs["architecture"]["layers"] for piece in tried} == {2, 3, 5, 6}


def test_an_equal_bill_is_the_superlms_and_the_search_divided_by_the_budgets():
    plan, _ = _filled(PROFILES["baselines"])
    step = TWO_CORES.sequence_length * TWO_CORES.batch_size
    tokens = TWO_CORES.tokens // step * step
    for budgets in (3, 27):
        afforded = (SUPERLM_SECONDS + SEARCH_SECONDS) / budgets / ALONE_SECONDS * tokens
        for role in ("alone", "random weights", "AutoTinyBERT's objective", "hand-made, thin-and-deep"):
            entry = next(one for one in plan.entries if one.role == f"{role}, bill / {budgets}")
            assert entry.distil.inputs["tokens"] == int(afforded) // step * step


def test_one_row_is_repeated_with_three_distillation_seeds():
    plan, _ = _filled(PROFILES["baselines"])
    repeated = [entry for entry in plan.entries if entry.role.startswith("alone") and "bill" not in entry.role]
    by_fraction = {
        fraction: sorted(entry.distil.inputs["seed"] for entry in repeated if entry.fraction == fraction)
        for fraction in TWO_CORES.fractions
    }
    assert by_fraction == {1 / 4: [0, 1, 2], 1 / 8: [0]}


def test_a_polish_is_taken_out_of_the_tokens_of_the_superlms():
    plan, _ = _filled(PROFILES["baselines"])
    polished = [entry for entry in plan.entries if entry.role == "chosen, polished"]
    assert [entry.fraction for entry in polished] == [1 / 4, 1 / 8]
    step = TWO_CORES.sequence_length * TWO_CORES.batch_size
    for entry in polished:
        superlms, own = entry.paid[0].inputs["tokens"], entry.distil.inputs["tokens"]
        assert entry.distil.inputs["initial"]["distil"] == entry.paid[0].fingerprint
        assert 0.25 < own / TWO_CORES.tokens < 0.31
        assert TWO_CORES.tokens - 2 * step < superlms + own <= TWO_CORES.tokens


def test_baselines_run_nothing_again_that_two_cores_ran():
    small, _ = _filled(TWO_CORES)
    large, _ = _filled(PROFILES["baselines"])
    assert set(small.pieces) <= set(large.pieces)


def test_another_recipe_is_another_piece_and_the_labels_stay():
    plan, _ = _filled(TWO_CORES)
    other, _ = _filled(replace(TWO_CORES, training={"learning_rate": 1e-3, "dropout": 0.0}))
    common = set(plan.pieces) & set(other.pieces)
    assert {plan.pieces[one].kind for one in common if "teacher" not in plan.pieces[one].name} == {"labels"}


def test_the_questions_ask_for_enough_shapes():
    plan, _ = _filled(PROFILES["questions"])
    assert len(plan.predicting) >= 40
    whole = shapes.macs_of(SHAPE, SHAPE.architecture)
    for one in plan.predicting:
        assert abs(shapes.macs_of(SHAPE, one.entry.architecture) / (one.band * whole) - 1) <= 0.15
    shapes_by_length: dict[int, int] = {}
    for part in plan.sharing:
        shapes_by_length[part.tokens] = shapes_by_length.get(part.tokens, 0) + len(part.shapes)
    assert shapes_by_length == {50_000: 24, 200_000: 24, 800_000: 9}
    decays = {part.inside.needs[0].inputs["decay"] for part in plan.sharing}
    decays |= {part.alone.inputs["decay"] for part in plan.sharing}
    assert decays == {0.2}  # alike for all rows
    members = {
        tokens: [part.alone.inputs["members"] for part in plan.sharing if part.everywhere and part.tokens == tokens]
        for tokens in shapes_by_length
    }
    assert members[50_000] == members[200_000] == members[800_000]  # so that they share their trunks


def test_recipes_are_compared_on_the_same_shapes():
    plan, _ = _filled(PROFILES["recipes"])
    widths = {tuple(one.layers[0].widths for one in row.shapes) for row in plan.recipes}
    assert len(widths) == 1 and len(widths.pop()) == 48
    assert len({row.distil.fingerprint for row in plan.recipes}) == len(plan.recipes) == 8
    rules = {row.variant: row.distil.inputs["members"]["small"]["layer_rule"] for row in plan.recipes}
    assert list(rules.values()) == ["floor", "to-last", "to-last", "to-last"]
    assert [row.distil.inputs["training"]["smallest_every"] for row in plan.recipes] == [1, 1, 1, 1, 4, 4, 16, 16]


def test_pieces_are_named_with_what_they_need():
    plan, _ = _filled(TWO_CORES)
    found = only_named(plan.pieces.values(), "Chosen at 0.25: RTE, seed 0")
    assert [piece.kind for piece in found] == ["scene", "distil", "labels", "task"]
    assert only_named(plan.pieces.values(), "nothing") == []
    assert [piece.kind for piece in deciding(plan.pieces.values())] == ["scene", "distil", "search"]


@pytest.mark.parametrize("name", PROFILES)
def test_estimates_are_positive(name):
    if PROFILES[name].teacher == "minilm":
        plan, _ = _filled(PROFILES[name])
        assert all(piece.seconds > 0 for piece in plan.pieces.values())


def test_shapes_are_compared_at_equal_cost_from_short_and_wide_to_thin_and_deep():
    plan, _ = _filled(PROFILES["shapes"])
    whole = shapes.macs_of(SHAPE, SHAPE.architecture)
    by_budget: dict[float, list[Architecture]] = {}
    for part in plan.shapes:
        by_budget.setdefault(part.fraction, []).extend(part.shapes)
        assert list(part.alone.inputs["members"]) == [member_of(one) for one in part.shapes]
    assert set(by_budget) == {1 / 4, 1 / 8}
    for fraction, found in by_budget.items():
        assert len(found) == len(set(found)) >= 7
        assert all(shapes.is_equal(shapes.macs_of(SHAPE, one), fraction * whole) for one in found)
        assert {SHAPE.hidden_size, SHAPE.hidden_size // 2} & {one.hidden_size for one in found}


def test_widths_are_compared_on_the_shapes_that_all_have():
    plan, _ = _filled(PROFILES["widths"])
    assert len({row.shapes for row in plan.recipes}) == 1
    assert {one.hidden_size for one in plan.recipes[0].shapes} == {SHAPE.hidden_size}
    widths = [row.distil.inputs["members"]["small"]["hidden_sizes"] for row in plan.recipes]
    assert widths == [[384], [288, 384], [288, 320, 352, 384]]
