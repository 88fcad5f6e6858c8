from __future__ import annotations

import json

import pytest

from workloads.shapes.architecture import Architecture, Layer, spread_layers

ALIKE = Architecture.alike(layers=4, hidden_size=128, heads=4, head_width=32, intermediate_size=384, teacher_layers=12)
RAGGED = Architecture(40, (Layer(1, 16, 30, 0), Layer(4, 16, 200, 1), Layer(2, 16, 77, 2)))


@pytest.mark.parametrize(
    ("depth", "kept"), [(4, [0, 3, 6, 9]), (7, [0, 1, 3, 5, 6, 8, 10]), (11, list(range(11))), (12, list(range(12)))]
)
def test_kept_layers_are_spread_as_in_the_papers_code(depth: int, kept: list[int]) -> None:
    assert spread_layers(depth, 12) == kept


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
        "source_layers": [0, 3, 6, 9],
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
