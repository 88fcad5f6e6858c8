from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace
from fractions import Fraction

import pytest

from workloads.shapes.architecture import Architecture, Layer
from workloads.shapes.search_space import (
    LISTED,
    ListedSpace,
    ProductSpace,
    Space,
    draw_genes,
    members_or_draws,
    space_from_json,
)
from workloads.shapes.spaces import paper_spaces, relative_spaces
from workloads.shapes.teacher_files import named_shape

SHAPE = named_shape("bert-base")
RAGGED = ListedSpace(
    "ragged",
    (
        Architecture(64, (Layer(4, 16, 128, 0), Layer(0, 16, 64, 1), Layer(2, 16, 0, 3))),
        Architecture(64, (Layer(2, 16, 100, 0), Layer(0, 16, 0, 1), Layer(1, 16, 0, 3))),
    ),
)
STOCK = ProductSpace("stock", (2, 4), (32, 48), (2.0, 4.0), None, 16, 12)
FREE = ProductSpace("free", (3, 1), (48, 40), (Fraction(7, 3), 2.5), (3, 1, 2), 16, 12)
FRESH = ProductSpace("fresh", (1, 3), (32, 48), (2.0, 4.0), (2, 3), 8, None)
ACTIVATIONS = ListedSpace(
    "activations",
    tuple(
        Architecture(hidden, (Layer(heads, hidden // heads, 64),) * 2, activation)
        for hidden, heads in ((24, 2), (24, 3), (48, 2), (48, 3))
        for activation in ("relu", "silu")
    ),
)
EACH = pytest.mark.parametrize(
    "space", [STOCK, FREE, RAGGED, FRESH, ACTIVATIONS, *paper_spaces()], ids=lambda space: space.name
)


@EACH
def test_a_space_is_its_points_and_every_draw_is_one_of_them(space: Space) -> None:
    members = list(space)
    assert members == [space.point(genes) for genes in itertools.product(*map(range, space.gene_sizes))]
    assert len(members) == len(space) and {space.smallest, space.largest} <= set(members)
    assert space.point(space.smallest_genes) == space.smallest
    draw = random.Random(1)
    assert {space.sample(draw) for _ in range(20)} | {space.point(draw_genes(space, draw))} <= set(members)
    assert all(one in space for one in members)


@EACH
def test_a_space_knows_what_is_no_member_of_it(space: Space) -> None:
    one = space.largest
    assert replace(one, hidden_size=one.hidden_size + 1) not in space
    assert replace(one, layers=one.layers[1:]) not in space
    wider = replace(one.layers[-1], intermediate_size=one.layers[-1].intermediate_size + 1)
    assert replace(one, layers=(*one.layers[:-1], wider)) not in space
    assert "largest" not in space


@pytest.mark.parametrize("space", [STOCK, FREE, RAGGED, FRESH, *paper_spaces()], ids=lambda space: space.name)
def test_the_extents_hold_every_member(space: Space) -> None:
    extents = space.extents
    by_label = dict(zip(extents.labels, extents.layers, strict=True))
    assert sorted({label for one in space for label in one.labels}) == list(extents.labels)
    for one in space:
        assert one.hidden_size <= extents.hidden_size
        for label, layer in zip(one.labels, one.layers, strict=True):
            there = by_label[label]
            assert layer.heads <= there.heads and layer.intermediate_size <= there.intermediate_size


@EACH
def test_a_space_comes_back_from_its_json(space: Space) -> None:
    kept = json.loads(json.dumps(space.to_json()))
    assert kept["kind"] == space.kind
    assert space_from_json(kept) == space


def test_a_product_that_an_earlier_version_kept_is_read() -> None:
    kept = {
        "name": "stock", "layers": [2, 4], "hidden_sizes": [32, 48], "mlp_ratios": [2.0, 4.0], "heads": None,
        "head_width": 16, "teacher_layers": 12,
    }  # fmt: skip
    assert space_from_json(kept) == replace(STOCK, layer_rule="floor")  # the only rule that it had


def test_a_kind_of_space_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="'cloud' is not a kind of space"):
        space_from_json({"kind": "cloud", "name": "x"})


@pytest.mark.parametrize("inner", [3071, 2049, 1000, 769, 5])
def test_feed_forward_widths_are_exact_for_teachers_of_any_ratio(inner: int) -> None:
    for space in relative_spaces(replace(SHAPE, architecture=Architecture.of_teacher(12, 768, 12, inner * 4)), 3):
        for one in space:
            exact = [one.hidden_size * eighths * inner * 4 // (8 * 768) for eighths in range(1, 9)]
            assert one.layers[0].intermediate_size in exact
        assert list(space_from_json(space.to_json())) == list(space)


def test_a_decimal_ratio_is_the_decimal_and_not_its_binary_neighbour() -> None:
    space = ProductSpace("x", (1,), (100, 30), (1.7, 0.29, 2.3), None, 10, 1)
    widths = {(one.hidden_size, one.layers[0].intermediate_size) for one in space}
    assert widths == {(100, 170), (100, 29), (100, 230), (30, 51), (30, 8), (30, 69)}


def test_a_space_of_billions_is_drawn_from_and_never_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    huge = ProductSpace("huge", tuple(range(1, 13)), tuple(range(64, 769)), tuple(range(1, 1001)), (1, 2), 64, 12)
    monkeypatch.setattr(ProductSpace, "__iter__", lambda self: pytest.fail("listed"))
    assert len(huge) == 12 * 705 * 1000 * 2 > LISTED
    few = members_or_draws(huge)
    assert len(few) < LISTED and all(one in huge for one in few) and members_or_draws(huge) == few
    assert len(huge.extents.layers) == 12


def test_a_list_names_each_architecture_once() -> None:
    with pytest.raises(AssertionError, match="twice"):
        ListedSpace("x", (STOCK.smallest, STOCK.smallest))
