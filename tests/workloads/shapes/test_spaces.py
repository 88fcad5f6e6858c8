from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import Any

import pytest

from workloads.methods.method import training_tokens
from workloads.shapes.architecture import Architecture, TeacherShape, spread_layers
from workloads.shapes.costs import student_cost
from workloads.shapes.search_space import ProductSpace
from workloads.shapes.spaces import paper_spaces, relative_spaces, spaces_for
from workloads.shapes.teacher_files import named_shape
from workloads.spec.autodistil import SubspacesSpec
from workloads.spec.errors import InputError
from workloads.spec.request import parse_request

TWELVE = named_shape("bert-base")
SIX = replace(TWELVE, architecture=Architecture.of_teacher(6, 384, 12, 1536))
TEACHERS = pytest.mark.parametrize("shape", [SIX, TWELVE], ids=["six", "twelve"])
COUNTS = pytest.mark.parametrize("count", range(1, 13))


def by_hand(**changes: object) -> SubspacesSpec:
    one = {"name": "mine", "layers": [2, 4], "hidden_sizes": [128, 192], "mlp_ratios": [2, 4], **changes}
    return SubspacesSpec.model_validate({"spaces": [one]})


def paper_student(layers: int, hidden: int, ratio: float, heads: int) -> Architecture:
    neurons, sources = int(hidden * ratio), spread_layers(layers, 12, "floor")
    return Architecture.of_columns(
        hidden, layers, heads=heads, head_width=64, intermediate_size=neurons, sources=sources
    )


def test_the_papers_spaces_have_256_different_students_each() -> None:
    for space in paper_spaces():
        assert len(space) == len(set(space)) == 256


def test_the_papers_students_lie_in_the_spaces_they_are_named_for() -> None:
    tiny, small, base = (set(space) for space in paper_spaces())
    assert paper_student(7, 160, 3.5, 10) in tiny
    assert {paper_student(11, 352, 4, 10), paper_student(11, 352, 4, 8)} <= small
    assert paper_student(12, 544, 3, 9) in base


@TEACHERS
@COUNTS
def test_relative_spaces_are_as_many_as_asked_and_stock_and_fit_the_teacher(shape: TeacherShape, count: int) -> None:
    spaces = relative_spaces(shape, count)
    assert len(spaces) == len({space.name for space in spaces}) == count
    for space in spaces:
        architectures = list(space)
        assert len(architectures) == len(set(architectures)) == len(space)
        for one in architectures:
            assert one.stock and one.hidden_size <= shape.hidden_size and 1 <= len(one.layers) <= shape.layers
            assert one.layers[0].intermediate_size <= shape.intermediate_size


@TEACHERS
@COUNTS
def test_relative_spaces_leave_no_large_hole_between_costs(shape: TeacherShape, count: int) -> None:
    whole = student_cost(shape, shape.architecture, 128).flops
    costs = sorted(
        student_cost(shape, one, 128).flops / whole for space in relative_spaces(shape, count) for one in space
    )
    assert costs[-1] > 0.8
    largest = max(after / before for before, after in itertools.pairwise(costs) if before > 0.05)
    assert largest < 1.4


@TEACHERS
def test_relative_spaces_go_from_thin_to_deep(shape: TeacherShape) -> None:
    tiny, small, base = relative_spaces(shape, 3)
    layers = shape.layers
    assert [tiny.name, small.name, base.name] == ["tiny", "small", "base"]
    assert max(tiny.layers) < max(small.layers) < max(base.layers) == shape.layers
    assert [min(space.layers) for space in (tiny, small, base)] == [layers // 3, layers // 3, layers // 6]
    assert [space.hidden_sizes for space in (tiny, small, base)] == [(shape.hidden_size // part,) for part in (4, 2, 1)]


@TEACHERS
def test_small_budgets_have_candidates_of_the_teachers_width_and_narrower_ones(shape: TeacherShape) -> None:
    whole = student_cost(shape, shape.architecture, 128).flops
    for share in (1 / 4, 1 / 8):
        near = [
            one
            for space in relative_spaces(shape, 3)
            for one in space
            if 0.75 < student_cost(shape, one, 128).flops / whole / share <= 1
        ]
        assert {one.hidden_size == shape.hidden_size for one in near} == {True, False}
        assert any(len(one.layers) >= shape.layers / 2 for one in near)


def test_more_spaces_than_the_teachers_heads_allow_are_refused() -> None:
    with pytest.raises(InputError, match=r"subspaces.count: .* at most 12"):
        relative_spaces(SIX, 13)


def test_the_ends_and_every_draw_lie_in_the_space() -> None:
    for space in (*paper_spaces(), *relative_spaces(SIX, 3)):
        everything = list(space)
        assert (everything[0], everything[-1]) == (space.smallest, space.largest)
        draw = random.Random(3)
        drawn = {space.sample(draw) for _ in range(400)}
        assert drawn <= set(everything) and len(drawn) > len(everything) // 2


def test_the_papers_preset_is_refused_for_another_teacher() -> None:
    spec = SubspacesSpec.model_validate({"preset": "autodistil-paper"})
    assert [space.name for space in spaces_for(spec, TWELVE)] == ["tiny", "small", "base"]
    with pytest.raises(InputError, match=r"subspaces.preset: .*6 x 384.*'relative'"):
        spaces_for(spec, SIX)


def test_the_papers_preset_is_refused_for_a_teacher_that_is_too_narrow_inside() -> None:
    spec = SubspacesSpec.model_validate({"preset": "autodistil-paper"})
    assert spaces_for(spec, replace(TWELVE, architecture=Architecture.of_teacher(12, 768, 12, 2560)))
    with pytest.raises(InputError, match=r"subspaces.preset: The feed-forward widths 1360 to 2560 .* has 2559"):
        spaces_for(spec, replace(TWELVE, architecture=Architecture.of_teacher(12, 768, 12, 2559)))


def test_a_teacher_with_next_to_no_feed_forward_network_is_refused() -> None:
    with pytest.raises(InputError, match=r"subspaces.preset: The feed-forward widths 0 .*by hand"):
        spaces_for(SubspacesSpec(), replace(SIX, architecture=Architecture.of_teacher(6, 384, 12, 2)))


def test_every_range_that_does_not_fit_is_named_at_once() -> None:
    with pytest.raises(InputError) as caught:
        spaces_for(by_hand(layers=[13], hidden_sizes=[800]), TWELVE)
    fields = [found.field.removeprefix("subspaces.spaces.0.") for found in caught.value.errors]
    assert fields == ["layers", "hidden_sizes", "mlp_ratios", "hidden_sizes"]


def test_spaces_by_hand_are_sorted_and_of_the_teachers_head_width() -> None:
    (space,) = spaces_for(by_hand(layers=[4, 2, 4], hidden_sizes=[192, 128]), TWELVE)
    assert space == ProductSpace("mine", (2, 4), (128, 192), (2.0, 4.0), None, 64, 12)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"layers": [13]}, "layers"),
        ({"hidden_sizes": [832], "mlp_ratios": [2]}, "hidden_sizes"),
        ({"hidden_sizes": [100]}, "hidden_sizes"),
        ({"hidden_sizes": [100], "heads": [13]}, "heads"),
        ({"hidden_sizes": [768], "mlp_ratios": [5]}, "mlp_ratios"),
        ({"mlp_ratios": [0.001]}, "mlp_ratios"),
    ],
)
def test_a_range_by_hand_that_the_teacher_cannot_give_is_named(changes: dict[str, object], field: str) -> None:
    with pytest.raises(InputError) as caught:
        spaces_for(by_hand(**changes), TWELVE)
    (found,) = caught.value.errors
    assert found.field == f"subspaces.spaces.0.{field}" and found.remedy


def test_free_heads_by_hand_allow_any_hidden_size() -> None:
    (space,) = spaces_for(by_hand(hidden_sizes=[100], heads=[3, 12]), TWELVE)
    assert not space.largest.stock and space.largest.layers[0].heads == 12


def test_importance_orders_weights_except_for_the_papers_preset() -> None:
    paper = {"preset": "autodistil-paper"}
    assert SubspacesSpec.model_validate({}).ordered and by_hand().ordered
    assert not SubspacesSpec.model_validate(paper).ordered
    assert SubspacesSpec.model_validate({**paper, "importance": True}).ordered


@pytest.mark.parametrize(
    ("changes", "tokens"),
    [
        ({}, 3 * 10_000),
        ({"subspaces": {"count": 5}}, 5 * 10_000),
        ({"subspaces": {"preset": "autodistil-paper"}}, 3 * 10_000),
        ({"training": {"tokens_per_superlm": {"all": 30_000}}, "subspaces": {"count": 1}}, 30_000),
        ({"polish": {"tokens": 5000, "top_k": 2}}, 3 * 10_000 + 2 * 2 * 5000),
    ],
)
def test_the_tokens_of_a_request_are_those_of_all_superlms_and_of_polishing(changes: dict, tokens: int) -> None:
    given = {
        "teacher": {"model": "m"},
        "corpus": {"paths": ["x.txt"]},
        "training": {"tokens_per_superlm": 10_000, "batch_size": 32},
        "budgets": [{"name": name, "max_params": 1000} for name in "ab"],
    }
    request = parse_request(given | changes)
    assert training_tokens(request) == tokens
    assert request.polish_tokens == (20_000 if "polish" in changes else 0)


def test_a_teacher_with_more_heads_than_its_hidden_size_holds_gets_spaces_that_fit() -> None:
    free = Architecture.alike(
        layers=6, hidden_size=256, heads=8, head_width=64, intermediate_size=1024, teacher_layers=6
    )
    for space in relative_spaces(replace(TWELVE, architecture=free), 2):
        assert space.largest.stock and space.largest.hidden_size <= 256
    assert spaces_for(SubspacesSpec.model_validate({"count": 2}), replace(TWELVE, architecture=free))


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({}, "to-last"),
        ({"layer_rule": "floor"}, "floor"),
        ({"preset": "autodistil-paper"}, "floor"),
        ({"preset": "autodistil-paper", "layer_rule": "to-last"}, "to-last"),
    ],
)
def test_layers_end_in_the_teachers_last_but_with_the_papers_recipe(fields: dict[str, Any], rule: str) -> None:
    shape = named_shape("bert-base")
    spaces = spaces_for(SubspacesSpec(**fields), shape)
    assert {space.layer_rule for space in spaces} == {rule}
    by_hand = {"name": "mine", "layers": [2], "hidden_sizes": [128], "mlp_ratios": [2]}
    if "preset" not in fields:
        (space,) = spaces_for(SubspacesSpec(spaces=[by_hand], **fields), shape)
        assert space.largest.labels == ((0, 11) if rule == "to-last" else (0, 6))
