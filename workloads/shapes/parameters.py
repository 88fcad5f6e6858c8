"""The parameters of an encoder by canonical name, and the axes of each.

Cutting, ordering, counting and exporting weights, and the families' layouts, all use this table. Light to import.

Canonical names: ``embeddings.word``; ``embeddings.norm.weight``; ``layers.3.query.weight``; ``relative_bias``. A table
is one parameter of its own name, a linear map and a norm have ``.weight`` and ``.bias``. The label of a layer
(``3``) is the teacher's number in a SuperLM, and the layer's own number in a model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from workloads.shapes.architecture import Layer, TeacherShape, Vocabulary
from workloads.shapes.heads import MOST_DENSE, Head, dense_name

Axis = Literal[
    "hidden",
    "attention",
    "ffn",
    "heads",
    "vocabulary",
    "positions",
    "token_types",
    "buckets",
    "teacher_hidden",
    "targets",
    "labels",
    "vector_0",
    "vector_1",
    "vector_2",
    "vector",
    "teacher_vector",
]
Axes = tuple[Axis, ...]
Extents = Mapping[Axis, int]

LAYERS = "layers"


@dataclass(frozen=True, slots=True)
class Part:
    """A module with parameters.

    Attributes:
        name: Canonical name within its block.
        kind: A table has a weight only; linear maps and norms also have a bias along the weight's first axis.
        axes: Axes of the weight; those of a linear map are its outputs, then its inputs.
        depends_on: A further axis whose width of 0 leaves the part out: a norm goes with the linear maps before it.
    """

    name: str
    kind: Literal["table", "linear", "norm"]
    axes: Axes
    depends_on: Axis | None = None

    @property
    def parameters(self) -> dict[str, Axes]:
        """Axes of each parameter of the part, by canonical name."""
        if self.kind == "table":
            return {self.name: self.axes}
        return {f"{self.name}.weight": self.axes, f"{self.name}.bias": self.axes[:1]}

    def exists_in(self, extents: Extents) -> bool:
        """Whether a model of these extents has the part: a width of 0 leaves it out."""
        return all(extents.get(axis, 1) for axis in (*self.axes, *([self.depends_on] if self.depends_on else [])))


EMBEDDINGS = (
    Part("embeddings.word", "table", ("vocabulary", "hidden")),
    Part("embeddings.position", "table", ("positions", "hidden")),
    Part("embeddings.token_type", "table", ("token_types", "hidden")),
    Part("embeddings.norm", "norm", ("hidden",)),
)
LAYER = (
    Part("query", "linear", ("attention", "hidden")),
    Part("key", "linear", ("attention", "hidden")),
    Part("value", "linear", ("attention", "hidden")),
    Part("attention_output", "linear", ("hidden", "attention")),
    Part("intermediate", "linear", ("ffn", "hidden")),
    Part("output", "linear", ("hidden", "ffn")),
    Part("attention_norm", "norm", ("hidden",), depends_on="attention"),
    Part("output_norm", "norm", ("hidden",), depends_on="ffn"),
)
RELATIVE_BIAS = Part("relative_bias", "table", ("buckets", "heads"))
POOLER = Part("pooler", "linear", ("hidden", "hidden"))
CLASSIFIER = Part("classifier", "linear", ("labels", "hidden"))
DENSE = (
    Part(dense_name(0), "linear", ("vector_0", "hidden")),
    Part(dense_name(1), "linear", ("vector_1", "vector_0")),
    Part(dense_name(2), "linear", ("vector_2", "vector_1")),
)
HEAD = (CLASSIFIER, *DENSE)
"""Parts of heads; a :class:`~workloads.shapes.heads.LogitsHead` of rows also uses the pooler."""
PROJECTION = Part("projection", "linear", ("teacher_hidden", "hidden"))
"""A learned map of the output to the teacher's width, saved beside the student."""
HIDDEN_PROJECTION = Part("hidden_projection", "linear", ("targets", "hidden"))
"""A learned map of all layers' hidden states to their training targets; not saved with the student."""
VECTOR_PROJECTION = Part("vector_projection", "linear", ("teacher_vector", "vector"))
"""A learned map of smaller vectors to the teacher's, saved beside the student."""
LEARNED_MAPS = (PROJECTION, HIDDEN_PROJECTION, VECTOR_PROJECTION)

assert len(DENSE) == MOST_DENSE

SHARED = (*EMBEDDINGS, RELATIVE_BIAS, POOLER, *HEAD, *LEARNED_MAPS)
"""Parts that all layers share."""


@dataclass(frozen=True, slots=True)
class Place:
    """Place of a parameter in a model.

    Attributes:
        label: Label of its layer; None for a part that layers share.
        part: The part that it belongs to.
        kind: The part's weight or its bias.
        axes: Axes of the parameter.
    """

    label: str | None
    part: Part
    kind: Literal["weight", "bias"]
    axes: Axes


def place_of(name: str) -> Place:
    """Find a parameter by its canonical name.

    Raises:
        KeyError: No part has a parameter of this name.
    """
    label = None
    parts = _SHARED
    if name.startswith(f"{LAYERS}."):
        _, label, name = name.split(".", 2)
        parts = _OF_LAYER
    part = parts[name]
    return Place(label, part, "bias" if name.endswith(".bias") else "weight", part.parameters[name])


_OF_LAYER = {name: part for part in LAYER for name in part.parameters}
_SHARED = {name: part for part in SHARED for name in part.parameters}


def parameter_names(shape: TeacherShape) -> list[str]:
    """Return the canonical name of every parameter of a model."""
    return list(parameter_sizes(shape))


def parameter_sizes(shape: TeacherShape) -> dict[str, tuple[int, ...]]:
    """Return the size of every parameter of a model along its axes, by canonical name."""
    whole = shared_extents(shape.vocabulary, shape.hidden_size, shape.architecture.most_heads)
    sizes = {name: _sizes(axes, whole) for part in shared_parts(shape.vocabulary, whole)
             for name, axes in part.parameters.items()}  # fmt: skip
    for index, layer in enumerate(shape.architecture.layers):
        extents = {**whole, **widths(layer)}
        for part in layer_parts(layer):
            sizes |= {layer_name(index, name): _sizes(axes, extents) for name, axes in part.parameters.items()}
    return sizes


def shared_parts(vocabulary: Vocabulary, extents: Extents) -> list[Part]:
    """Return the parts that the layers of a model share."""
    pooler = [POOLER] if vocabulary.pooler else []
    possible = (*EMBEDDINGS, RELATIVE_BIAS, *pooler, *head_parts(vocabulary.head))
    return [part for part in possible if part.exists_in(extents)]


def head_parts(head: Head | None) -> list[Part]:
    """Return the parts of a head."""
    return [] if head is None else [part for part in HEAD if part.name in head.parts]


def shared_extents(vocabulary: Vocabulary, hidden_size: int, heads: int) -> Extents:
    """Return the extents of the axes that the layers of a model share; ``heads``: the most of any layer."""
    return {
        "vocabulary": vocabulary.vocab_size,
        "positions": vocabulary.positions,
        "token_types": vocabulary.token_types,
        "buckets": vocabulary.relative_buckets,
        "hidden": hidden_size,
        "heads": heads,
        **(vocabulary.head.extents if vocabulary.head is not None else {}),
    }


def layer_name(label: int | str, name: str) -> str:
    """Return the canonical name of a parameter of a layer."""
    return f"{LAYERS}.{label}.{name}"


def widths(layer: Layer) -> Extents:
    """Return the extents of a layer's own axes."""
    return {"attention": layer.heads * layer.head_width, "ffn": layer.intermediate_size}


def layer_parts(layer: Layer) -> list[Part]:
    """Return the parts of a layer: without heads it has no attention, without neurons no feed-forward network."""
    extents = widths(layer)
    return [part for part in LAYER if part.exists_in(extents)]


def parameter_count(parts: Iterable[Part], extents: Extents) -> int:
    """Count the parameters that parts hold."""
    return sum(_product(axes, extents) for part in parts for axes in part.parameters.values())


def macs(parts: Iterable[Part], extents: Extents) -> int:
    """Count the multiply-accumulates of one vector through each linear map."""
    return sum(_product(part.axes, extents) for part in parts if part.kind == "linear")


def _sizes(axes: Axes, extents: Extents) -> tuple[int, ...]:
    return tuple(extents[axis] for axis in axes)


def _product(axes: Axes, extents: Extents) -> int:
    return math.prod(_sizes(axes, extents))
