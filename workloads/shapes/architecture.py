"""The shape of a Transformer encoder: its architecture, and the vocabulary that it reads. Light to import."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Layer:
    """One encoder layer.

    Attributes:
        heads: Attention heads; with 0 the layer has no attention.
        head_width: Width of each head; ``heads * head_width`` is the attention width.
        intermediate_size: Neurons of the feed-forward network; with 0 the layer has none.
        source: The teacher layer (from 0) whose weights it starts from; None where it starts from no teacher's.
    """

    heads: int
    head_width: int
    intermediate_size: int
    source: int | None = None

    @property
    def widths(self) -> tuple[int, int, int]:
        """Heads, their width, and neurons: the layer without its source."""
        return self.heads, self.head_width, self.intermediate_size


@dataclass(frozen=True, slots=True)
class Architecture:
    """A hidden size and a list of layers, alike (AutoDistil) or ragged (AutoDisc).

    Attributes:
        layers: All of them start from a teacher layer, or none does.
        activation: Name of the feed-forward activation, as ``transformers`` has it; None for the teacher's.
    """

    hidden_size: int
    layers: tuple[Layer, ...]
    activation: str | None = None
    _hash: int | None = field(default=None, init=False, repr=False, compare=False)
    """Kept once it is asked for: tables of candidates are looked up by architecture, and its layers are many."""

    def __post_init__(self) -> None:
        assert len({layer.source is None for layer in self.layers}) == 1, self.layers

    def __hash__(self) -> int:
        if self._hash is None:
            object.__setattr__(self, "_hash", hash((self.hidden_size, self.layers, self.activation)))
            assert self._hash is not None
        return self._hash

    def __reduce__(self) -> tuple[type[Architecture], tuple[int, tuple[Layer, ...], str | None]]:
        # Without the hash: that of a string is another in each process.
        return Architecture, (self.hidden_size, self.layers, self.activation)

    @classmethod
    def alike(
        cls,
        *,
        layers: int,
        hidden_size: int,
        heads: int,
        head_width: int,
        intermediate_size: int,
        teacher_layers: int | None,
    ) -> Architecture:
        """Build a shape whose layers are all the same.

        Args:
            layers: How many.
            hidden_size: Of the residual stream.
            heads: Of each layer.
            head_width: Of each head.
            intermediate_size: Of each layer.
            teacher_layers: Depth of the teacher that the layers are spread over; None where they start from none.
        """
        sources = [None] * layers if teacher_layers is None else spread_layers(layers, teacher_layers)
        return cls(hidden_size, tuple(Layer(heads, head_width, intermediate_size, source) for source in sources))

    @classmethod
    def of_teacher(cls, layers: int, hidden_size: int, heads: int, intermediate_size: int) -> Architecture:
        """Build the shape of a stock teacher, whose heads share out the hidden size."""
        return cls.alike(
            layers=layers,
            hidden_size=hidden_size,
            heads=heads,
            head_width=hidden_size // heads,
            intermediate_size=intermediate_size,
            teacher_layers=layers,
        )

    @classmethod
    def of_columns(
        cls,
        hidden_size: int,
        layers: int,
        *,
        heads: int | list[int],
        head_width: int | list[int],
        intermediate_size: int | list[int],
        sources: Sequence[int | None] | None = None,
    ) -> Architecture:
        """Build a shape of numbers where all layers agree, and of lists where they differ.

        Args:
            hidden_size: Of the residual stream.
            layers: How many.
            heads: Of the layers.
            head_width: Of their heads.
            intermediate_size: Of the layers.
            sources: Of the layers; each is its own where there are none.
        """
        columns = [_as_list(column, layers) for column in (heads, head_width, intermediate_size)]
        rows = zip(*columns, range(layers) if sources is None else sources, strict=True)
        return cls(hidden_size, tuple(Layer(*row) for row in rows))

    @property
    def labels(self) -> tuple[int, ...]:
        """The number of each layer among the weights that it shares: its source, or its own place without one."""
        return tuple(index if layer.source is None else layer.source for index, layer in enumerate(self.layers))

    @property
    def most_heads(self) -> int:
        """Heads of the layer that has the most."""
        return max(layer.heads for layer in self.layers)

    @property
    def stock(self) -> bool:
        """Whether plain ``transformers`` classes can express it: alike layers, attention width = hidden size."""
        first = self.layers[0]
        alike = all(layer.widths == first.widths for layer in self.layers)
        return alike and first.heads * first.head_width == self.hidden_size and first.intermediate_size > 0

    def to_json(self) -> dict[str, Any]:
        """Give the JSON form: a number where all layers agree, a list where they differ."""
        document = {
            "layers": len(self.layers),
            "hidden_size": self.hidden_size,
            "intermediate_size": _number_or_list([layer.intermediate_size for layer in self.layers]),
            "heads": _number_or_list([layer.heads for layer in self.layers]),
            "head_width": _number_or_list([layer.head_width for layer in self.layers]),
            "source_layers": [layer.source for layer in self.layers],
        }
        return document if self.activation is None else {**document, "activation": self.activation}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Architecture:
        """Read back what :meth:`to_json` gave."""
        shape = cls.of_columns(
            int(document["hidden_size"]),
            int(document["layers"]),
            heads=document["heads"],
            head_width=document["head_width"],
            intermediate_size=document["intermediate_size"],
            sources=document["source_layers"],
        )
        return replace(shape, activation=document.get("activation"))

    def describe(self) -> str:
        """Give a short human form such as ``4 x 128, heads 4, ffn 384``; ragged: ``heads 4x2-3-0``."""
        heads = _in_short([layer.heads for layer in self.layers])
        neurons = _in_short([layer.intermediate_size for layer in self.layers])
        words = f"{len(self.layers)} x {self.hidden_size}, heads {heads}, ffn {neurons}"
        return words if self.activation is None else f"{words}, {self.activation}"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Inputs of a model, and its parts beside the layers; a teacher and its students share them.

    Attributes:
        family: ``bert``, ``roberta``, ``xlm-roberta`` or ``mpnet``: whose stock classes compute what it computes.
        vocab_size: Rows of the word table.
        positions: Rows of the position table (RoBERTa-like families start counting after the padding id).
        token_types: Rows of the token-type table; 0 where the family has none.
        relative_buckets: Rows of the relative attention bias table; 0 where the family has none.
        pooler: Whether the checkpoint carries a pooler (a dense layer over the first token).
        reserved_positions: Rows of the position table before the first token's.
    """

    family: str
    vocab_size: int
    positions: int
    token_types: int
    relative_buckets: int = 0
    pooler: bool = True
    reserved_positions: int = 0

    @property
    def longest(self) -> int:
        """Tokens that a model reads at most."""
        return self.positions - self.reserved_positions


@dataclass(frozen=True, slots=True)
class TeacherShape:
    """The shape of a model to distil: a stock teacher, or a student of ours as the teacher of others.

    Attributes:
        architecture: Each layer's source is its own place.
        vocabulary: What it reads.
    """

    architecture: Architecture
    vocabulary: Vocabulary

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.architecture.layers)

    @property
    def hidden_size(self) -> int:
        """Width of its residual stream."""
        return self.architecture.hidden_size

    @property
    def heads(self) -> int:
        """Heads that each of its layers has at least: what any layer of a student can start from."""
        return min(layer.heads for layer in self.architecture.layers)

    @property
    def head_width(self) -> int:
        """Width of its heads, of the widest where they differ."""
        return max(layer.head_width for layer in self.architecture.layers)

    @property
    def last_heads(self) -> int:
        """Heads of its last layer: as many relation heads as an objective takes where it is not told."""
        return self.architecture.layers[-1].heads

    @property
    def intermediate_size(self) -> int:
        """Neurons that each of its layers has at least."""
        return min(layer.intermediate_size for layer in self.architecture.layers)

    @property
    def longest(self) -> int:
        """Tokens that it, and so each of its students, reads at most."""
        return self.vocabulary.longest

    def to_json(self) -> dict[str, Any]:
        """Give the JSON form, flat: a number where all layers agree, a list where they differ."""
        facts, shape = asdict(self.vocabulary), self.architecture.to_json()
        document = {"family": facts.pop("family")}
        document |= {name: shape[name] for name in ("layers", "hidden_size", "heads", "intermediate_size")}
        document |= facts
        return document if self.architecture.stock else {**document, "head_width": shape["head_width"]}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> TeacherShape:
        """Read back what :meth:`to_json` gave."""
        facts = dict(document)
        hidden, heads = facts.pop("hidden_size"), facts.pop("heads")
        architecture = Architecture.of_columns(
            hidden,
            facts.pop("layers"),
            heads=heads,
            head_width=facts.pop("head_width") if "head_width" in facts else hidden // heads,
            intermediate_size=facts.pop("intermediate_size"),
        )
        return cls(architecture, Vocabulary(**facts))


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


def _in_short(values: Sequence[int]) -> str:
    if len(set(values)) == 1:
        return str(values[0])
    runs = [(value, len(list(run))) for value, run in itertools.groupby(values)]
    return "-".join(str(value) if count == 1 else f"{value}x{count}" for value, count in runs)
