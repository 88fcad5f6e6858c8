"""The shape of a Transformer encoder: its architecture, and the vocabulary that it reads. Light to import."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from workloads.shapes.heads import Head, head_from_json, head_to_json, kind_of

if TYPE_CHECKING:
    from workloads.spec.autodistil import LayerRule
    from workloads.spec.request import KindName


@dataclass(frozen=True, slots=True)
class Layer:
    """One encoder layer.

    Attributes:
        heads: Attention heads; with 0 the layer has no attention.
        head_width: Width of each head; ``heads * head_width`` is the attention width.
        intermediate_size: Neurons of the feed-forward network; with 0 the layer has none.
        source: The teacher layer (from 0) whose weights it starts from; None if it starts from no teacher layer.
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
        layers: The layers in order; either all of them start from a teacher layer, or none does.
        activation: Name of the feed-forward activation in ``transformers``; None for the teacher's.
    """

    hidden_size: int
    layers: tuple[Layer, ...]
    activation: str | None = None
    _hash: int | None = field(default=None, init=False, repr=False, compare=False)
    """Cached hash: candidates are looked up by architecture very often, and hashing all layers is slow."""

    def __post_init__(self) -> None:
        assert len({layer.source is None for layer in self.layers}) == 1, self.layers

    def __hash__(self) -> int:
        if self._hash is None:
            object.__setattr__(self, "_hash", hash((self.hidden_size, self.layers, self.activation)))
            assert self._hash is not None
        return self._hash

    def __reduce__(self) -> tuple[type[Architecture], tuple[int, tuple[Layer, ...], str | None]]:
        # The cached hash is left out: hashes of strings differ between processes.
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
            layers: Number of layers.
            hidden_size: Width of the residual stream.
            heads: Attention heads of each layer.
            head_width: Width of each head.
            intermediate_size: Feed-forward neurons of each layer.
            teacher_layers: Depth of the teacher that the layers are spread over, to its last; None if they start from
                no teacher.
        """
        sources = [None] * layers if teacher_layers is None else spread_layers(layers, teacher_layers)
        return cls(hidden_size, tuple(Layer(heads, head_width, intermediate_size, source) for source in sources))

    @classmethod
    def of_teacher(cls, layers: int, hidden_size: int, heads: int, intermediate_size: int) -> Architecture:
        """Build the shape of a stock teacher: the width of its heads is the hidden size over their number."""
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
        """Build a shape from sizes that are one number for all layers, or a list with one number a layer.

        Args:
            hidden_size: Width of the residual stream.
            layers: Number of layers.
            heads: Attention heads.
            head_width: Width of a head.
            intermediate_size: Feed-forward neurons.
            sources: Source of each layer; by default the layer's own index.
        """
        columns = [_as_list(column, layers) for column in (heads, head_width, intermediate_size)]
        rows = zip(*columns, range(layers) if sources is None else sources, strict=True)
        return cls(hidden_size, tuple(Layer(*row) for row in rows))

    @property
    def labels(self) -> tuple[int, ...]:
        """Number of each layer in the names of shared weights: its source, or its own index if it has none."""
        return tuple(index if layer.source is None else layer.source for index, layer in enumerate(self.layers))

    @property
    def most_heads(self) -> int:
        """Most heads of any layer."""
        return max(layer.heads for layer in self.layers)

    @property
    def stock(self) -> bool:
        """Whether plain ``transformers`` classes express the shape: equal layers, attention width = hidden size."""
        first = self.layers[0]
        alike = all(layer.widths == first.widths for layer in self.layers)
        return alike and first.heads * first.head_width == self.hidden_size and first.intermediate_size > 0

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form: a size is a number where all layers agree, a list where they differ."""
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
        """Build it from the result of :meth:`to_json`."""
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
        """Return a short text such as ``4 x 128, heads 4, ffn 384``; for layers that differ ``heads 4x2-3-0``."""
        heads = _in_short([layer.heads for layer in self.layers])
        neurons = _in_short([layer.intermediate_size for layer in self.layers])
        words = f"{len(self.layers)} x {self.hidden_size}, heads {heads}, ffn {neurons}"
        return words if self.activation is None else f"{words}, {self.activation}"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Inputs of a model, and its parts beside the layers; a teacher and its students share them.

    Attributes:
        family: ``bert``, ``roberta``, ``xlm-roberta`` or ``mpnet``: the stock classes that compute the same function.
        vocab_size: Rows of the word table.
        positions: Rows of the position table (RoBERTa-like families start counting after the padding id).
        token_types: Rows of the token-type table; 0 where the family has none.
        relative_buckets: Rows of the relative attention bias table; 0 where the family has none.
        pooler: Whether the checkpoint carries a pooler (a dense layer over the first token).
        reserved_positions: Rows of the position table before that of the first token.
        head: What the model computes from the encoder's output; None for an encoder alone.
    """

    family: str
    vocab_size: int
    positions: int
    token_types: int
    relative_buckets: int = 0
    pooler: bool = True
    reserved_positions: int = 0
    head: Head | None = None

    @property
    def longest(self) -> int:
        """Longest input, in tokens: all positions, or fewer if the model's own library cuts texts earlier."""
        positions = self.positions - self.reserved_positions
        return positions if self.head is None or self.head.longest is None else min(positions, self.head.longest)


@dataclass(frozen=True, slots=True)
class TeacherShape:
    """The shape of a teacher: a stock model, or a saved student that is distilled further.

    Attributes:
        architecture: Its layers; the source of each is its own index.
        vocabulary: Its inputs, and its parts beside the layers.
    """

    architecture: Architecture
    vocabulary: Vocabulary

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.architecture.layers)

    @property
    def hidden_size(self) -> int:
        """Width of the residual stream."""
        return self.architecture.hidden_size

    @property
    def heads(self) -> int:
        """Fewest heads of any layer, so that every layer can be the source of a student's layer with so many."""
        return min(layer.heads for layer in self.architecture.layers)

    @property
    def head_width(self) -> int:
        """Width of the widest head."""
        return max(layer.head_width for layer in self.architecture.layers)

    @property
    def last_heads(self) -> int:
        """Heads of the last layer; the default number of relation heads."""
        return self.architecture.layers[-1].heads

    @property
    def intermediate_size(self) -> int:
        """Fewest feed-forward neurons of any layer."""
        return min(layer.intermediate_size for layer in self.architecture.layers)

    @property
    def longest(self) -> int:
        """Longest input of the teacher and of its students, in tokens."""
        return self.vocabulary.longest

    @property
    def head(self) -> Head | None:
        """The head of its students; None for an encoder alone."""
        return self.vocabulary.head

    @property
    def kind(self) -> KindName:
        """Kind of the teacher, and of its students."""
        return kind_of(self.head)

    @property
    def of_teacher(self) -> TeacherShape:
        """The shape with the head as the teacher has it, which may lack a projection of its students."""
        return self if self.head is None else self.with_head(self.head.of_teacher)

    def with_head(self, head: Head | None) -> TeacherShape:
        """Return the shape with another head."""
        return replace(self, vocabulary=replace(self.vocabulary, head=head))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, flat: a size is a number where all layers agree, a list where they differ."""
        facts, shape = asdict(replace(self.vocabulary, head=None)), self.architecture.to_json()
        del facts["head"]
        if self.head is not None:
            facts["head"] = head_to_json(self.head)
        document = {"family": facts.pop("family")}
        document |= {name: shape[name] for name in ("layers", "hidden_size", "heads", "intermediate_size")}
        document |= facts
        return document if self.architecture.stock else {**document, "head_width": shape["head_width"]}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> TeacherShape:
        """Build it from the result of :meth:`to_json`."""
        facts = dict(document)
        hidden, heads = facts.pop("hidden_size"), facts.pop("heads")
        architecture = Architecture.of_columns(
            hidden,
            facts.pop("layers"),
            heads=heads,
            head_width=facts.pop("head_width") if "head_width" in facts else hidden // heads,
            intermediate_size=facts.pop("intermediate_size"),
        )
        head = facts.pop("head", None)
        return cls(architecture, Vocabulary(**facts, head=None if head is None else head_from_json(head)))


def spread_layers(depth: int, teacher_layers: int, rule: LayerRule = "to-last") -> list[int]:
    """Return the teacher layers that ``depth`` student layers start from, spread evenly.

    Args:
        depth: The student's layers, d.
        teacher_layers: The teacher's layers, L.
        rule: ``to-last``: ``round(i * (L - 1) / (d - 1))``, halves up, which always ends in the teacher's last layer;
            4 of 12 gives 0, 4, 7, 11. ``floor``: ``floor(i * L / d)``, as in AutoDistil's released code; 4 of 12 gives
            0, 3, 6, 9.
    """
    assert 1 <= depth <= teacher_layers, (depth, teacher_layers)
    if rule == "floor":
        return [index * teacher_layers // depth for index in range(depth)]
    if depth == 1:
        return [teacher_layers - 1]
    steps = depth - 1
    return [(2 * index * (teacher_layers - 1) + steps) // (2 * steps) for index in range(depth)]


def _number_or_list(values: Sequence[int]) -> int | list[int]:
    return values[0] if len(set(values)) == 1 else list(values)


def _as_list(value: int | list[int], count: int) -> list[int]:
    return value if isinstance(value, list) else [value] * count


def _in_short(values: Sequence[int]) -> str:
    if len(set(values)) == 1:
        return str(values[0])
    runs = [(value, len(list(run))) for value, run in itertools.groupby(values)]
    return "-".join(str(value) if count == 1 else f"{value}x{count}" for value, count in runs)
