"""What an architecture costs: exact counts, and the closed forms that the AutoDistil paper prints.

Counts are of the extracted student as it is saved (embeddings and, where the teacher has one, the pooler
included). ``flops`` are multiply-accumulates of one sequence at a stated length, padding not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from workloads.shapes.architecture import Architecture, TeacherShape
from workloads.spec.budgets import Dtype

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


def student_cost(shape: TeacherShape, architecture: Architecture, sequence_length: int = 128) -> Cost:
    """Count the parameters and multiply-accumulates of a student of ``architecture``.

    Args:
        shape: The teacher, for the vocabulary, positions, token types, relative bias and pooler.
        architecture: The student.
        sequence_length: Tokens of the sequence that ``flops`` is counted for.
    """
    hidden, length = architecture.hidden_size, sequence_length
    tables = (shape.vocab_size + shape.positions + shape.token_types) * hidden
    params = 2 * hidden  # the embeddings' LayerNorm
    flops = 0
    for layer in architecture.layers:
        width, inner = layer.heads * layer.head_width, layer.intermediate_size
        params += 3 * (hidden * width + width) + (width * hidden + hidden)
        params += (hidden * inner + inner) + (inner * hidden + hidden)
        params += 4 * hidden  # two LayerNorms
        flops += length * (4 * hidden * width + 2 * hidden * inner) + 2 * length * length * width
    if shape.relative_buckets:
        params += shape.relative_buckets * max(layer.heads for layer in architecture.layers)
    if shape.pooler:
        params += hidden * hidden + hidden
        flops += hidden * hidden
    return Cost(tables + params, params, flops, length, _activation_bytes(shape, architecture, length))


def _activation_bytes(shape: TeacherShape, architecture: Architecture, length: int) -> int:
    """Count the peak of live tensors, as the lifetimes of the modules' variables have it.

    It is in a feed-forward network, or in attention where that is not fused. A relative bias ``[heads, L, L]`` lives
    through all layers.
    """
    hidden, relative = architecture.hidden_size, shape.relative_buckets > 0
    most_heads = max(layer.heads for layer in architecture.layers)
    bias = length * most_heads if relative else 0
    floats = 0  # a token
    for index, layer in enumerate(architecture.layers):
        width, inner = layer.heads * layer.head_width, layer.intermediate_size
        # The feed-forward network: its input with both sides of the activation, or with the way to the layer's output.
        most = max(hidden + 2 * inner, (4 if architecture.stock else 3) * hidden + inner)
        if architecture.stock:
            held = hidden * min(index + 1, 2)  # the embeddings and the layer's input; the same in the first
            if relative:  # the stock class has no fused attention: scores and probabilities stand whole
                most = max(most, 5 * hidden + 2 * length * layer.heads)
        else:  # our own class holds the layer's input, and queries, keys, values and context to the layer's end
            held = hidden + 4 * width
        floats = max(floats, held + most + bias)
    peak = BYTES["float32"] * length * floats
    if relative:  # with few heads, working out the buckets, in int64, takes more than any layer
        buckets = 49 * length + 16 if architecture.stock else max(37 * length + 8, (8 + 4 * most_heads) * length)
        peak = max(peak, length * (buckets + BYTES["float32"] * hidden))
    return peak


def teacher_architecture(shape: TeacherShape) -> Architecture:
    """Give the teacher's own shape as an architecture."""
    return Architecture.alike(
        layers=shape.layers,
        hidden_size=shape.hidden_size,
        heads=shape.heads,
        head_width=shape.head_width,
        intermediate_size=shape.intermediate_size,
        teacher_layers=shape.layers,
    )


def paper_params(layers: int, hidden: int, mlp_ratio: float, heads: int) -> int:
    """Parameters by the closed form behind AutoDistil's printed tables (arXiv 2201.12507, Table 2).

    It describes another model than the one trained (attention width ``hidden * heads / 12``), so it
    serves for comparison with the paper only; budgets are met in :func:`student_cost`.
    """
    h, a, r = Fraction(hidden), Fraction(heads), Fraction(mlp_ratio)
    per_layer = (h * h + 3 * h * h * a / 12 + 6 * h) + (2 * h * h * r + h * r + 3 * h)
    return round(31038 * h + per_layer * layers + h * h + 2 * h)


def paper_flops(layers: int, hidden: int, mlp_ratio: float, heads: int) -> int:
    """Multiply-accumulates at 128 tokens by the paper's closed form; see :func:`paper_params`."""
    h, a, r, n = Fraction(hidden), Fraction(heads), Fraction(mlp_ratio), PAPER_SEQUENCE_LENGTH
    per_layer = 3 * n * h * h * a / 12 + 2 * n * n * h * a / 12 + n * h * h + 2 * n * r * h * h
    return round(per_layer * layers + n * h * h + 2 * h)
