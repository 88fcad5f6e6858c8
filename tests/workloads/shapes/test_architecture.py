from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest

from workloads.shapes.architecture import Architecture, Layer, TeacherShape, Vocabulary, spread_layers
from workloads.spec.autodistil import LayerRule

ALIKE = Architecture.alike(layers=4, hidden_size=128, heads=4, head_width=32, intermediate_size=384, teacher_layers=12)
RAGGED = Architecture(40, (Layer(1, 16, 30, 0), Layer(4, 16, 200, 1), Layer(2, 16, 77, 2)))


@pytest.mark.parametrize(
    ("depth", "kept"), [(4, [0, 3, 6, 9]), (7, [0, 1, 3, 5, 6, 8, 10]), (11, list(range(11))), (12, list(range(12)))]
)
def test_kept_layers_are_spread_as_in_the_papers_code(depth: int, kept: list[int]) -> None:
    assert spread_layers(depth, 12, "floor") == kept


@pytest.mark.parametrize(
    ("depth", "kept"),
    [(1, [11]), (2, [0, 11]), (3, [0, 6, 11]), (4, [0, 4, 7, 11]), (5, [0, 3, 6, 8, 11]), (12, list(range(12)))],
)
def test_kept_layers_end_in_the_teachers_last_one(depth: int, kept: list[int]) -> None:
    assert spread_layers(depth, 12) == kept


@pytest.mark.parametrize("rule", ["to-last", "floor"])
def test_kept_layers_are_different_layers_in_order(rule: LayerRule) -> None:
    for teacher_layers in range(1, 49):
        for depth in range(1, teacher_layers + 1):
            kept = spread_layers(depth, teacher_layers, rule)
            assert len(kept) == depth and kept == sorted(set(kept)), (depth, teacher_layers)
            assert kept[0] >= 0 and kept[-1] < teacher_layers


@pytest.mark.parametrize("architecture", [ALIKE, RAGGED])
def test_an_architecture_comes_back_from_its_json(architecture: Architecture) -> None:
    assert Architecture.from_json(json.loads(json.dumps(architecture.to_json()))) == architecture


def test_json_has_numbers_where_layers_agree_and_lists_where_they_differ() -> None:
    assert ALIKE.to_json() == {
        "layers": 4,
        "hidden_size": 128,
        "intermediate_size": 384,
        "heads": 4,
        "head_width": 32,
        "source_layers": [0, 4, 7, 11],
    }
    ragged = RAGGED.to_json()
    assert ragged["heads"] == [1, 4, 2] and ragged["head_width"] == 16


def test_only_alike_layers_of_the_hidden_sizes_width_are_stock() -> None:
    free = Architecture.alike(
        layers=4, hidden_size=128, heads=5, head_width=32, intermediate_size=384, teacher_layers=12
    )
    layers = (*ALIKE.layers[:-1], Layer(4, 32, 100, 9))
    assert ALIKE.stock and not free.stock and not Architecture(128, layers).stock


def test_an_architecture_describes_itself_shortly() -> None:
    assert ALIKE.describe() == "4 x 128, heads 4, ffn 384"
    assert RAGGED.describe() == "3 x 40, heads 1-4-2, ffn 30-200-77"
    deep = Architecture(768, tuple(Layer(heads, 64, inner) for heads, inner in [(12, 9)] * 3 + [(0, 9)] * 2 + [(7, 0)]))
    assert deep.describe() == "6 x 768, heads 12x3-0x2-7, ffn 9x5-0"
    assert replace(ALIKE, activation="relu").describe() == "4 x 128, heads 4, ffn 384, relu"


@pytest.mark.parametrize("architecture", [
    replace(ALIKE, activation="silu"),
    Architecture(40, (Layer(1, 16, 30), Layer(2, 8, 30))),
    Architecture(40, (Layer(0, 16, 30, 0), Layer(2, 16, 0, 1))),
], ids=["activation", "no source", "no heads, no neurons"])  # fmt: skip
def test_every_kind_of_architecture_comes_back_from_its_json(architecture: Architecture) -> None:
    assert Architecture.from_json(json.loads(json.dumps(architecture.to_json()))) == architecture


def test_the_json_of_before_is_read_and_nothing_is_added_that_it_does_not_need() -> None:
    before = {
        "layers": 2,
        "hidden_size": 8,
        "intermediate_size": 16,
        "heads": 2,
        "head_width": 4,
        "source_layers": [0, 3],
    }
    assert Architecture.from_json(before).activation is None
    assert Architecture.from_json(before).to_json() == before


def test_layers_share_weights_by_their_source_and_by_their_place_without_one() -> None:
    assert ALIKE.labels == (0, 4, 7, 11)
    assert Architecture(40, (Layer(1, 16, 30), Layer(2, 16, 30))).labels == (0, 1)


def test_layers_that_start_from_a_teacher_and_such_that_do_not_do_not_mix() -> None:
    with pytest.raises(AssertionError):
        Architecture(40, (Layer(1, 16, 30, 1), Layer(2, 16, 30)))


def test_a_teachers_shape_comes_back_from_its_json_and_from_that_of_before() -> None:
    before = {
        "family": "roberta", "layers": 6, "hidden_size": 384, "heads": 12, "intermediate_size": 1536,
        "vocab_size": 1000, "positions": 514, "token_types": 1, "relative_buckets": 0, "pooler": False,
        "reserved_positions": 2,
    }  # fmt: skip
    shape = TeacherShape.from_json(before)
    assert shape.to_json() == before and list(shape.to_json()) == list(before)
    assert shape.architecture == Architecture.of_teacher(6, 384, 12, 1536) and shape.longest == 512
    assert TeacherShape.from_json({**before, "heads": 6}).head_width == 64


def test_a_ragged_teachers_shape_comes_back_too_and_limits_what_any_layer_may_take() -> None:
    shape = TeacherShape(RAGGED, Vocabulary("mpnet", 500, 130, 0, 32))
    assert TeacherShape.from_json(json.loads(json.dumps(shape.to_json()))) == shape
    assert (shape.layers, shape.hidden_size, shape.heads, shape.intermediate_size) == (3, 40, 1, 30)


def test_an_architecture_s_hash_is_kept_and_is_no_part_of_what_it_is() -> None:
    one, other = (
        Architecture.alike(layers=2, hidden_size=8, heads=2, head_width=4, intermediate_size=8, teacher_layers=2)
        for _ in range(2)
    )
    assert hash(one) == hash(one) == hash(other)
    assert one == other and repr(one) == repr(other) and {one: 1}[other] == 1
    assert pickle.dumps(one) == pickle.dumps(replace(other)), "the hash stays behind"
    assert hash(replace(one, activation="relu")) != hash(one)
    again = pickle.loads(pickle.dumps(one))
    assert again == one and hash(again) == hash(one)
