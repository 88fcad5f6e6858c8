"""What a Transformer encoder looks like: the teacher's shape and a student's architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TeacherShape:
    """The dimensions of a teacher, enough to count costs and to lay out sub-spaces.

    Attributes:
        family: ``bert``, ``roberta``, ``xlm-roberta`` or ``mpnet``.
        positions: Rows of the position table (RoBERTa-like families start counting after the padding id).
        token_types: Rows of the token-type table; 0 where the family has none.
        relative_buckets: Rows of the relative attention bias table; 0 where the family has none.
        pooler: Whether the checkpoint carries a pooler (a dense layer over the first token).
        reserved_positions: Rows of the position table before the first token's.
    """

    family: str
    layers: int
    hidden_size: int
    heads: int
    intermediate_size: int
    vocab_size: int
    positions: int
    token_types: int
    relative_buckets: int = 0
    pooler: bool = True
    reserved_positions: int = 0

    @property
    def longest(self) -> int:
        """Tokens that it, and so each of its students, reads at most."""
        return self.positions - self.reserved_positions

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.heads


@dataclass(frozen=True, slots=True)
class Layer:
    """One encoder layer of a student.

    Attributes:
        heads: Attention heads.
        head_width: Width of each head; ``heads * head_width`` is the attention width.
        intermediate_size: Neurons of the feed-forward network.
        source: The teacher layer (from 0) whose weights it starts from.
    """

    heads: int
    head_width: int
    intermediate_size: int
    source: int


@dataclass(frozen=True, slots=True)
class Architecture:
    """A student's shape: a hidden size and a list of layers, alike (AutoDistil) or ragged (AutoDisc)."""

    hidden_size: int
    layers: tuple[Layer, ...]

    @classmethod
    def alike(
        cls, *, layers: int, hidden_size: int, heads: int, head_width: int, intermediate_size: int, teacher_layers: int
    ) -> Architecture:
        """Build a student whose layers are all the same, started from evenly spread teacher layers."""
        sources = spread_layers(layers, teacher_layers)
        return cls(hidden_size, tuple(Layer(heads, head_width, intermediate_size, source) for source in sources))

    @property
    def most_heads(self) -> int:
        """Heads of the layer that has the most."""
        return max(layer.heads for layer in self.layers)

    @property
    def stock(self) -> bool:
        """Whether plain ``transformers`` classes can express it: alike layers, attention width = hidden size."""
        first = self.layers[0]
        alike = all(
            (layer.heads, layer.head_width, layer.intermediate_size)
            == (first.heads, first.head_width, first.intermediate_size)
            for layer in self.layers
        )
        return alike and first.heads * first.head_width == self.hidden_size

    def to_json(self) -> dict[str, Any]:
        """Give the JSON form: a number where all layers agree, a list where they differ."""
        return {
            "layers": len(self.layers),
            "hidden_size": self.hidden_size,
            "intermediate_size": _number_or_list([layer.intermediate_size for layer in self.layers]),
            "heads": _number_or_list([layer.heads for layer in self.layers]),
            "head_width": _number_or_list([layer.head_width for layer in self.layers]),
            "source_layers": [layer.source for layer in self.layers],
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Architecture:
        """Read back what :meth:`to_json` gave."""
        count = int(document["layers"])
        columns = [_as_list(document[key], count) for key in ("heads", "head_width", "intermediate_size")]
        layers = zip(*columns, document["source_layers"], strict=True)
        return cls(int(document["hidden_size"]), tuple(Layer(*layer) for layer in layers))

    def describe(self) -> str:
        """Give a short human form such as ``4 x 128, heads 4, ffn 384``."""
        document = self.to_json()
        return (
            f"{document['layers']} x {self.hidden_size}, heads {document['heads']}, ffn {document['intermediate_size']}"
        )


def spread_layers(depth: int, teacher_layers: int) -> list[int]:
    """Spread ``depth`` kept layers evenly over the teacher's: ``floor(i * L / d)``.

    Source: AutoDistil's released code; 4 of 12 gives 0, 3, 6, 9.
    """
    assert 1 <= depth <= teacher_layers, (depth, teacher_layers)
    return [index * teacher_layers // depth for index in range(depth)]


def _number_or_list(values: Sequence[int]) -> int | list[int]:
    return values[0] if len(set(values)) == 1 else list(values)


def _as_list(value: int | list[int], count: int) -> list[int]:
    return value if isinstance(value, list) else [value] * count
