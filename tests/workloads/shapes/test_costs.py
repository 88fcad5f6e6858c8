from __future__ import annotations

from dataclasses import replace

import pytest

from workloads.shapes.architecture import Architecture
from workloads.shapes.costs import paper_flops, paper_params, student_cost
from workloads.shapes.teacher_files import named_shape

BERT = named_shape("bert-base")
# arXiv 2201.12507, Table 2, and what the module of 64-wide heads really costs at 128 tokens.
# layers, hidden, ratio, heads; printed params and FLOPs, each with its last digit; real params and FLOPs likewise.
ROWS = {
    "agnostic": (11, 352, 4, 10, (26.8e6, 1e5), (2.13e9, 1e7), (31.92e6, 1e4), (2.895e9, 1e6)),
    "proxy-small": (11, 352, 4, 8, (26.1e6, 1e5), (2.02e9, 1e7), (29.94e6, 1e4), (2.595e9, 1e6)),
    "proxy-tiny": (7, 160, 3.5, 10, (6.88e6, 1e4), (0.27e9, 1e7), (9.14e6, 1e4), (0.674e9, 1e6)),
    "proxy-base": (12, 544, 3, 9, (50.1e6, 1e5), (4.40e9, 1e7), (53.61e6, 1e4), (4.879e9, 1e6)),
    "teacher": (12, 768, 4, 12, (109e6, 1e6), (11.2e9, 1e8), (109.48e6, 1e4), (11.174e9, 1e6)),
}
Printed = tuple[float, float]


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_the_closed_forms_give_the_papers_rows_within_one_unit_of_the_last_digit(
    row: tuple[int, int, float, int, Printed, Printed, Printed, Printed],
) -> None:
    layers, hidden, ratio, heads, (params, params_unit), (flops, flops_unit), _, _ = row
    assert abs(paper_params(layers, hidden, ratio, heads) - params) <= params_unit
    assert abs(paper_flops(layers, hidden, ratio, heads) - flops) <= flops_unit


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_the_real_costs_of_the_papers_students_are_those_of_the_module(
    row: tuple[int, int, float, int, Printed, Printed, Printed, Printed],
) -> None:
    layers, hidden, ratio, heads, _, _, (params, params_unit), (flops, flops_unit) = row
    architecture = Architecture.alike(
        layers=layers,
        hidden_size=hidden,
        heads=heads,
        head_width=64,
        intermediate_size=int(hidden * ratio),
        teacher_layers=12,
    )
    cost = student_cost(BERT, architecture)
    assert cost.sequence_length == 128
    assert abs(cost.params - params) <= params_unit
    assert abs(cost.flops - flops) <= flops_unit


def test_bert_base_counts_as_many_parameters_as_its_checkpoint() -> None:
    cost = student_cost(BERT, BERT.architecture)
    assert cost.params == 109_482_240
    assert cost.params - cost.params_without_embeddings == (30522 + 512 + 2) * 768


def test_a_pooler_and_a_relative_bias_count() -> None:
    architecture = BERT.architecture
    with_pooler = student_cost(BERT, architecture)
    without = student_cost(replace(BERT, vocabulary=replace(BERT.vocabulary, pooler=False)), architecture)
    assert with_pooler.params - without.params == 768 * 768 + 768
    assert with_pooler.flops - without.flops == 768 * 768
    biased = student_cost(replace(BERT, vocabulary=replace(BERT.vocabulary, relative_buckets=32)), architecture)
    assert biased.params - with_pooler.params == 32 * 12


def test_attention_grows_with_the_square_of_the_length_and_the_rest_with_the_length() -> None:
    shape = replace(BERT, vocabulary=replace(BERT.vocabulary, pooler=False))
    short, long = (student_cost(shape, shape.architecture, length).flops for length in (64, 128))
    assert long - 2 * short == 12 * 2 * 768 * (128**2 - 2 * 64**2)


def test_activations_of_bert_base_peak_in_the_feed_forward_network() -> None:
    peak = student_cost(BERT, BERT.architecture).activation_bytes
    assert peak == 128 * 4 * (3 * 768 + 2 * 3072)  # embeddings, the layer's and the network's input; both its sides


def test_the_scores_of_unfused_attention_grow_with_the_square_of_the_length() -> None:
    mpnet = named_shape("mpnet-base")
    short, long = (student_cost(mpnet, mpnet.architecture, length).activation_bytes for length in (512, 1024))
    assert long - 2 * short == 4 * 3 * 12 * (1024**2 - 2 * 512**2)  # bias, scores and probabilities
