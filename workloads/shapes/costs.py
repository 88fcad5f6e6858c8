"""Costs of an architecture: exact counts, and the closed forms of the AutoDistil paper.

Counts are of the extracted student as it is saved (embeddings and, where the teacher has one, the pooler
included). ``flops`` are multiply-accumulates of one sequence at a stated length, padding not counted.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from workloads.shapes import parameters
from workloads.shapes.architecture import Architecture, Layer, TeacherShape, Vocabulary
from workloads.spec.budgets import Dtype
from workloads.spec.part import default_length

PAPER_SEQUENCE_LENGTH = 128
BYTES: dict[Dtype, int] = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one student.

    Attributes:
        params: Parameters of the saved model, embeddings included.
        params_without_embeddings: The same less the word, position and token-type tables.
        flops: Multiply-accumulates of one forward of one sequence of ``sequence_length`` tokens.
        sequence_length: The length that ``flops`` and ``activation_bytes`` hold for, in tokens.
        activation_bytes: Peak bytes of live tensors in that forward in PyTorch, float32; weights and inputs not
            counted.
    """

    params: int
    params_without_embeddings: int
    flops: int
    sequence_length: int
    activation_bytes: int = 0

    def weight_bytes(self, dtype: Dtype) -> int:
        """Bytes of all weights in ``dtype``."""
        return self.params * BYTES[dtype]


class Quadratic(NamedTuple):
    """A count that grows with the sequence length L: ``square * L**2 + linear * L + constant``."""

    square: int = 0
    linear: int = 0
    constant: int = 0

    def at(self, length: int) -> int:
        """The count at a length."""
        return (self.square * length + self.linear) * length + self.constant


@dataclass(frozen=True, slots=True)
class CostByLength:
    """The cost of one student at every sequence length.

    Attributes:
        params: As in :class:`Cost`.
        params_without_embeddings: As in :class:`Cost`.
        flops: As in :class:`Cost`.
        activation_bytes: Bytes of live tensors at each moment that can be the peak: in a feed-forward network, in
            attention that is not fused, while the buckets of a relative bias are computed, and while its values are
            looked up. A moment that a student does not have is zero, so that two students of one teacher compare
            moment by moment.
    """

    params: int
    params_without_embeddings: int
    flops: Quadratic
    activation_bytes: tuple[Quadratic, Quadratic, Quadratic, Quadratic]

    def at(self, sequence_length: int) -> Cost:
        """The cost at a length, in tokens."""
        peak = max(moment.at(sequence_length) for moment in self.activation_bytes)
        flops = self.flops.at(sequence_length)
        return Cost(self.params, self.params_without_embeddings, flops, sequence_length, peak)


def student_cost(shape: TeacherShape, architecture: Architecture, sequence_length: int | None = None) -> Cost:
    """Count the parameters, multiply-accumulates and activation bytes of a student.

    Args:
        shape: The teacher, for the vocabulary, positions, token types, relative bias and pooler.
        architecture: The student.
        sequence_length: Tokens of the sequence that ``flops`` and ``activation_bytes`` are counted for; None: 128, or
            the teacher's longest input if that is shorter.
    """
    length = default_length(shape.longest) if sequence_length is None else sequence_length
    return cost_by_length(shape, architecture).at(length)


def cost_by_length(shape: TeacherShape, architecture: Architecture) -> CostByLength:
    """Count the costs of :func:`student_cost` for all sequence lengths at once."""
    shared = _shared_counts(shape.vocabulary, architecture.hidden_size, architecture.most_heads)
    embeddings, params, once, per_token = shared
    per_pair = 0
    for layer in architecture.layers:
        numbers, macs = _layer_counts(architecture.hidden_size, layer.heads, layer.head_width, layer.intermediate_size)
        params += numbers
        per_token += macs
        per_pair += 2 * layer.heads * layer.head_width
    flops = Quadratic(per_pair, per_token, once)
    return CostByLength(embeddings + params, params, flops, _activation_bytes(shape.vocabulary, architecture))


# A search counts thousands of students, and these have few distinct widths.
@functools.lru_cache(maxsize=4096)
def _shared_counts(vocabulary: Vocabulary, hidden_size: int, heads: int) -> tuple[int, int, int, int]:
    """Count the parameters of the embedding tables, of the other shared parts, and the latter's MACs.

    The MACs are those of a sequence, and those of each token in a head with an output for every token.
    """
    extents = parameters.shared_extents(vocabulary, hidden_size, heads)
    parts = parameters.shared_parts(vocabulary, extents)
    embeddings = [part for part in parts if part in parameters.EMBEDDINGS and part.kind == "table"]
    count = parameters.parameter_count(embeddings, extents)
    head = vocabulary.head
    of_tokens = parameters.head_parts(head) if head is not None and head.every_token else []
    each = parameters.macs(of_tokens, extents)
    return count, parameters.parameter_count(parts, extents) - count, parameters.macs(parts, extents) - each, each


@functools.lru_cache(maxsize=4096)
def _layer_counts(hidden_size: int, heads: int, head_width: int, intermediate_size: int) -> tuple[int, int]:
    """Count the parameters of a layer, and the MACs of a token with them (attention scores left out)."""
    layer = Layer(heads, head_width, intermediate_size, 0)
    parts = parameters.layer_parts(layer)
    extents: parameters.Extents = {"hidden": hidden_size, **parameters.widths(layer)}
    return parameters.parameter_count(parts, extents), parameters.macs(parts, extents)


def _activation_bytes(
    vocabulary: Vocabulary, architecture: Architecture
) -> tuple[Quadratic, Quadratic, Quadratic, Quadratic]:
    """Count the bytes of live tensors at each possible peak, from the lifetimes of variables in the modules' code.

    A relative bias ``[heads, L, L]`` lives through all layers.
    """
    hidden, most_heads, stock = architecture.hidden_size, architecture.most_heads, architecture.stock
    relative = vocabulary.relative_buckets > 0 and most_heads > 0
    bias = most_heads if relative else 0
    if stock:
        # The class holds the embeddings and the layer's input, which are the same in the first layer.
        held = hidden * min(len(architecture.layers), 2)
        forward = held + _feed_forward_floats(hidden, architecture.layers[0].intermediate_size, 4)
        unfused = held + 5 * hidden
    else:
        # Equal layers are counted once, since a search counts thousands of students.
        forward = max(_own_floats(hidden, *widths) for widths in {layer.widths for layer in architecture.layers})
        unfused = 0
    size = BYTES["float32"]
    in_layer = Quadratic(size * bias, size * forward)
    if not relative:
        return in_layer, Quadratic(), Quadratic(), Quadratic()
    # With few heads, computing the buckets, in int64, takes more memory than any layer.
    if stock:  # its attention is not fused: scores and probabilities are whole tensors
        in_attention = Quadratic(size * (bias + 2 * most_heads), size * unfused)
        return in_layer, in_attention, Quadratic(49, 16 + size * hidden), Quadratic()
    return in_layer, Quadratic(), Quadratic(37, 8 + size * hidden), Quadratic(8 + size * most_heads, size * hidden)


def _own_floats(hidden: int, heads: int, head_width: int, inner: int) -> int:
    """Count the floats a token that a layer of our own class holds at its peak, which is in its last part."""
    width = heads * head_width
    # The layer's input, queries, keys, values and context live to the layer's end.
    held = hidden + 4 * width if width else 0
    if inner:
        return held + _feed_forward_floats(hidden, inner, 3)
    return held + 2 * hidden  # the sum of residual and attention (or embeddings), and its norm


def _feed_forward_floats(hidden: int, inner: int, outputs: int) -> int:
    """Count the floats a token: input and both sides of the activation, or one side and the steps to the output."""
    return max(hidden + 2 * inner, outputs * hidden + inner)


def paper_params(layers: int, hidden: int, mlp_ratio: float, heads: int) -> int:
    """Parameters by the closed form behind AutoDistil's printed tables (arXiv 2201.12507, Table 2).

    It describes another model than the one trained (attention width ``hidden * heads / 12``), so it
    serves for comparison with the paper only; budgets limit the counts of :func:`student_cost`.
    """
    h, a, r = Fraction(hidden), Fraction(heads), Fraction(mlp_ratio)
    per_layer = (h * h + 3 * h * h * a / 12 + 6 * h) + (2 * h * h * r + h * r + 3 * h)
    return round(31038 * h + per_layer * layers + h * h + 2 * h)


def paper_flops(layers: int, hidden: int, mlp_ratio: float, heads: int) -> int:
    """Multiply-accumulates at 128 tokens by the paper's closed form; see :func:`paper_params`."""
    h, a, r, n = Fraction(hidden), Fraction(heads), Fraction(mlp_ratio), PAPER_SEQUENCE_LENGTH
    per_layer = 3 * n * h * h * a / 12 + 2 * n * n * h * a / 12 + n * h * h + 2 * n * r * h * h
    return round(per_layer * layers + n * h * h + 2 * h)
