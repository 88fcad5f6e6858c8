"""Search spaces: the sets of student shapes that candidates are taken from. Light to import.

A space is a product of ranges (:class:`ProductSpace`) or an explicit list (:class:`ListedSpace`). Code that draws,
crosses or lists candidates uses only the interface :class:`Space`.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Protocol

from workloads.shapes.architecture import Architecture, Layer, spread_layers
from workloads.spec.autodistil import LayerRule

Genes = tuple[int, ...]
"""A member's place in its space: for each gene, the index of a value."""
LISTED = 10_000
"""Most members of a space that are all listed, where a random sample would do as well."""
_DRAWS = 2_000


class Space(Protocol):
    """A set of architectures.

    Attributes:
        kind: Name of the form, as in the JSON of :meth:`to_json`.
    """

    kind: ClassVar[str]

    @property
    def name(self) -> str:
        """Name of the space, unique within a request."""
        ...

    @property
    def largest(self) -> Architecture:
        """The member with the most weights."""
        ...

    @property
    def smallest(self) -> Architecture:
        """The member with the fewest weights."""
        ...

    @property
    def smallest_genes(self) -> Genes:
        """The place of the smallest member."""
        ...

    @property
    def extents(self) -> Architecture:
        """The smallest architecture that holds every member as leading slices: one layer for each source."""
        ...

    @property
    def gene_sizes(self) -> tuple[int, ...]:
        """Number of values of each gene; :meth:`point` takes one index for each."""
        ...

    def point(self, genes: Genes) -> Architecture:
        """Return the member at a place."""
        ...

    def sample(self, draw: random.Random) -> Architecture:
        """Draw a member, each gene uniformly."""
        ...

    def __iter__(self) -> Iterator[Architecture]: ...

    def __len__(self) -> int: ...

    def __contains__(self, architecture: object) -> bool: ...

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; :func:`space_from_json` reads it back."""
        ...


@dataclass(frozen=True, slots=True)
class ProductSpace:
    """All combinations of a few ranges; the layers of each member are alike.

    Attributes:
        layers: Depths.
        hidden_sizes: Hidden sizes.
        mlp_ratios: Feed-forward width over hidden size, exact; a float is taken as the decimal that it prints as.
        heads: Head counts that do not depend on the hidden size (the paper's spaces; students need a modelling
            file); None for an attention width equal to the hidden size (stock shapes).
        head_width: Width of a head.
        teacher_layers: Depth of the teacher, over which a student's layers are spread; None if they start from none.
        layer_rule: How they are spread; see :func:`spread_layers`.
    """

    kind: ClassVar[str] = "product"

    name: str
    layers: tuple[int, ...]
    hidden_sizes: tuple[int, ...]
    mlp_ratios: tuple[Fraction, ...]
    heads: tuple[int, ...] | None
    head_width: int
    teacher_layers: int | None
    layer_rule: LayerRule = "to-last"

    def __post_init__(self) -> None:
        object.__setattr__(self, "mlp_ratios", tuple(exact_ratio(ratio) for ratio in self.mlp_ratios))

    def __len__(self) -> int:
        size = 1
        for count in self.gene_sizes:
            size *= count
        return size

    def __iter__(self) -> Iterator[Architecture]:
        return map(self.point, itertools.product(*map(range, self.gene_sizes)))

    def __contains__(self, architecture: object) -> bool:
        if not isinstance(architecture, Architecture) or len(architecture.layers) not in self.layers:
            return False
        first, hidden = architecture.layers[0], architecture.hidden_size
        heads = (hidden // self.head_width,) if self.heads is None else self.heads
        return (
            hidden in self.hidden_sizes
            and first.heads in heads
            and first.intermediate_size in {_width(hidden, ratio) for ratio in self.mlp_ratios}
            and architecture == self._member(len(architecture.layers), hidden, first.heads, first.intermediate_size)
        )

    @property
    def smallest(self) -> Architecture:
        """The member with the least value of every range."""
        return self.point(self.smallest_genes)

    @property
    def largest(self) -> Architecture:
        """The member with the greatest value of every range."""
        heads = None if self.heads is None else max(self.heads)
        return self._combine(max(self.layers), max(self.hidden_sizes), max(self.mlp_ratios), heads)

    @property
    def smallest_genes(self) -> Genes:
        """The indices of the least value of each range."""
        return tuple(values.index(min(values)) for values in self._ranges)

    @property
    def extents(self) -> Architecture:
        """The largest widths, with one layer for each teacher layer that a member of some depth starts from."""
        one = self.largest.layers[0]
        if self.teacher_layers is None:
            return self.largest
        sources = sorted({source for depth in self.layers for source in self._sources(depth) if source is not None})
        layers = tuple(Layer(one.heads, one.head_width, one.intermediate_size, source) for source in sources)
        return Architecture(max(self.hidden_sizes), layers)

    @property
    def gene_sizes(self) -> tuple[int, ...]:
        """The lengths of the ranges: layers, hidden sizes, feed-forward ratios, and heads where they are free."""
        return tuple(map(len, self._ranges))

    def point(self, genes: Genes) -> Architecture:
        """Return the member with these indices into the ranges."""
        layers, hidden, ratio = self.layers[genes[0]], self.hidden_sizes[genes[1]], self.mlp_ratios[genes[2]]
        return self._combine(layers, hidden, ratio, None if self.heads is None else self.heads[genes[3]])

    def sample(self, draw: random.Random) -> Architecture:
        """Draw a member, each range uniformly."""
        return self.point(draw_genes(self, draw))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; a ratio that no float prints exactly is a string such as ``8/3``."""
        return {
            "kind": self.kind,
            "name": self.name,
            "layers": list(self.layers),
            "hidden_sizes": list(self.hidden_sizes),
            "mlp_ratios": [_ratio_to_json(ratio) for ratio in self.mlp_ratios],
            "heads": None if self.heads is None else list(self.heads),
            "head_width": self.head_width,
            "teacher_layers": self.teacher_layers,
            "layer_rule": self.layer_rule,
        }

    @property
    def _ranges(self) -> tuple[tuple[Any, ...], ...]:
        ranges = self.layers, self.hidden_sizes, self.mlp_ratios
        return ranges if self.heads is None else (*ranges, self.heads)

    def _combine(self, layers: int, hidden: int, ratio: Fraction, heads: int | None) -> Architecture:
        heads = hidden // self.head_width if heads is None else heads
        return self._member(layers, hidden, heads, _width(hidden, ratio))

    def _member(self, layers: int, hidden: int, heads: int, intermediate: int) -> Architecture:
        sources = self._sources(layers)
        return Architecture(hidden, tuple(Layer(heads, self.head_width, intermediate, source) for source in sources))

    def _sources(self, depth: int) -> Sequence[int | None]:
        if self.teacher_layers is None:
            return [None] * depth
        return spread_layers(depth, self.teacher_layers, self.layer_rule)


@dataclass(frozen=True, slots=True)
class ListedSpace:
    """An explicit list of architectures, whose layers may differ.

    Attributes:
        members: The architectures, at least one, without duplicates.
    """

    kind: ClassVar[str] = "listed"

    name: str
    members: tuple[Architecture, ...]

    def __post_init__(self) -> None:
        assert self.members, self.name
        assert len(set(self.members)) == len(self.members), f"{self.name} lists an architecture twice"

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Architecture]:
        return iter(self.members)

    def __contains__(self, architecture: object) -> bool:
        return architecture in self.members

    @property
    def smallest(self) -> Architecture:
        """The member with the fewest weights in its layers."""
        return self.point(self.smallest_genes)

    @property
    def largest(self) -> Architecture:
        """The member with the most weights in its layers."""
        return max(self.members, key=_layer_weights)

    @property
    def smallest_genes(self) -> Genes:
        """The index of the smallest member."""
        return (min(range(len(self.members)), key=lambda index: _layer_weights(self.members[index])),)

    @property
    def extents(self) -> Architecture:
        """The largest widths of any member, with one layer for each source."""
        by_label: dict[int, Layer] = {}
        for one in self.members:
            for label, layer in zip(one.labels, one.layers, strict=True):
                known = by_label.setdefault(label, layer)
                assert known.head_width == layer.head_width, (self.name, known, layer)
                heads, neurons = max(known.heads, layer.heads), max(known.intermediate_size, layer.intermediate_size)
                by_label[label] = Layer(heads, layer.head_width, neurons, layer.source)
        hidden = max(one.hidden_size for one in self.members)
        return Architecture(hidden, tuple(by_label[label] for label in sorted(by_label)))

    @property
    def gene_sizes(self) -> tuple[int, ...]:
        """A single gene: the index into the list."""
        return (len(self.members),)

    def point(self, genes: Genes) -> Architecture:
        """Return the member with this index."""
        return self.members[genes[0]]

    def sample(self, draw: random.Random) -> Architecture:
        """Draw a member, all with the same chance."""
        return self.point(draw_genes(self, draw))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"kind": self.kind, "name": self.name, "members": [one.to_json() for one in self.members]}


def space_from_json(document: dict[str, Any]) -> Space:
    """Build a space from the result of :meth:`Space.to_json`, of this version or an earlier one.

    Raises:
        ValueError: The document names an unknown form.
    """
    kind = document.get("kind", ProductSpace.kind)  # earlier versions had this form alone, and did not name it
    if kind == ListedSpace.kind:
        return ListedSpace(document["name"], tuple(Architecture.from_json(one) for one in document["members"]))
    if kind == ProductSpace.kind:
        return ProductSpace(
            document["name"],
            tuple(document["layers"]),
            tuple(document["hidden_sizes"]),
            tuple(exact_ratio(ratio) for ratio in document["mlp_ratios"]),
            None if document["heads"] is None else tuple(document["heads"]),
            document["head_width"],
            document["teacher_layers"],
            document.get("layer_rule", "floor"),  # the only rule of earlier versions
        )
    raise ValueError(f"{kind!r} is not a kind of space. Use {ProductSpace.kind!r} or {ListedSpace.kind!r}.")


def draw_genes(space: Space, draw: random.Random) -> Genes:
    """Draw a place in a space, each gene uniformly."""
    return tuple(draw.randrange(size) for size in space.gene_sizes)


def members_or_draws(
    space: Space, seed: int = 0, *, listed: int = LISTED, draws: int = _DRAWS
) -> Sequence[Architecture]:
    """Return every member of a space, or ``draws`` random ones if it has more than ``listed``."""
    if len(space) <= listed:
        return list(space)
    draw = random.Random(f"{seed}/{space.name}")
    return [space.sample(draw) for _ in range(draws)]


def exact_ratio(value: Fraction | float | str) -> Fraction:
    """Return a ratio as an exact number; a float stands for the decimal that it prints as."""
    return value if isinstance(value, Fraction) else Fraction(str(value))


def _width(hidden: int, ratio: Fraction) -> int:
    """Return the feed-forward width: the product rounded down, as in the paper."""
    return int(hidden * ratio)


def _ratio_to_json(ratio: Fraction) -> float | str:
    return float(ratio) if Fraction(str(float(ratio))) == ratio else str(ratio)


def _layer_weights(architecture: Architecture) -> int:
    widths = (2 * layer.heads * layer.head_width + layer.intermediate_size for layer in architecture.layers)
    return architecture.hidden_size * sum(widths)
