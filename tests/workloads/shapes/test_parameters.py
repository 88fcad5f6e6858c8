from __future__ import annotations

import pytest

from workloads.shapes.architecture import Architecture, Layer, TeacherShape
from workloads.shapes.costs import student_cost
from workloads.shapes.parameters import parameter_names, place_of
from workloads.shapes.teacher_files import named_shape

BERT, MPNET = named_shape("bert-base"), named_shape("mpnet-base")
SKIPPING = Architecture(48, (Layer(0, 16, 100, 0), Layer(2, 16, 0, 1), Layer(0, 16, 0, 2)))


def test_every_parameter_of_a_layer_has_its_axes() -> None:
    axes = {name.removeprefix("layers.7."): place_of(name).axes for name in (
        "layers.7.query.weight", "layers.7.key.bias", "layers.7.attention_output.weight", "layers.7.intermediate.bias",
        "layers.7.output.weight", "layers.7.output.bias", "layers.7.attention_norm.weight", "layers.7.output_norm.bias",
    )}  # fmt: skip
    assert axes == {
        "query.weight": ("attention", "hidden"),
        "key.bias": ("attention",),
        "attention_output.weight": ("hidden", "attention"),
        "intermediate.bias": ("ffn",),
        "output.weight": ("hidden", "ffn"),
        "output.bias": ("hidden",),
        "attention_norm.weight": ("hidden",),
        "output_norm.bias": ("hidden",),
    }
    assert place_of("layers.7.query.weight").label == "7"


def test_what_layers_share_has_its_axes_and_no_label() -> None:
    found = {name: place_of(name) for name in ("embeddings.word", "relative_bias", "pooler.bias", "projection.weight")}
    assert {name: place.axes for name, place in found.items()} == {
        "embeddings.word": ("vocabulary", "hidden"),
        "relative_bias": ("buckets", "heads"),
        "pooler.bias": ("hidden",),
        "projection.weight": ("teacher_hidden", "hidden"),
    }
    assert {place.label for place in found.values()} == {None}


def test_a_layer_without_heads_has_no_attention_and_one_without_neurons_no_feed_forward_network() -> None:
    names = [name for name in parameter_names(TeacherShape(SKIPPING, BERT.vocabulary)) if name.startswith("layers.")]
    parts = {(name.split(".")[1], name.split(".")[2]) for name in names}
    assert {part for label, part in parts if label == "0"} == {"intermediate", "output", "output_norm"}
    assert {part for label, part in parts if label == "1"} == {
        "query",
        "key",
        "value",
        "attention_output",
        "attention_norm",
    }
    assert not {part for label, part in parts if label == "2"}


@pytest.mark.parametrize(("shape", "own"), [(BERT, {"embeddings.token_type"}), (MPNET, {"relative_bias"})])
def test_a_family_has_the_tables_that_its_vocabulary_tells(shape: TeacherShape, own: set[str]) -> None:
    names = set(parameter_names(TeacherShape(SKIPPING, shape.vocabulary)))
    assert names & {"embeddings.token_type", "relative_bias"} == own
    assert {"embeddings.word", "embeddings.norm.bias", "pooler.weight"} <= names and "projection.weight" not in names


def test_layers_that_are_left_out_cost_nothing() -> None:
    hidden, width, inner = 48, 32, 100
    tables = (30522 + 512 + 2) * hidden
    attention = 3 * (hidden * width + width) + (width * hidden + hidden) + 2 * hidden
    feed_forward = (hidden * inner + inner) + (inner * hidden + hidden) + 2 * hidden
    cost = student_cost(BERT, SKIPPING, 10)
    assert cost.params == tables + 2 * hidden + attention + feed_forward + hidden * hidden + hidden
    assert cost.flops == 10 * (4 * hidden * width + 2 * hidden * inner) + 2 * 100 * width + hidden * hidden
