"""Cutting weights to a shape: leading rows and columns along every axis that the shape has (AutoDistil, section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from workloads.shapes.architecture import Architecture
from workloads.shapes.parameters import (
    EMBEDDINGS,
    POOLER,
    PROJECTION,
    RELATIVE_BIAS,
    Axes,
    Extents,
    Part,
    layer_name,
    layer_parts,
    widths,
)


def cut_student(weights: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """Cut a student out of the weights of its teacher or SuperLM; its layers are numbered from 0."""
    return cut(weights, architecture, range(len(architecture.layers)))


def cut(weights: Mapping[str, Tensor], architecture: Architecture, labels: Sequence[int]) -> dict[str, Tensor]:
    """Cut canonical weights to a shape, and number its layers by ``labels``."""
    whole: Extents = {"hidden": architecture.hidden_size, "heads": architecture.most_heads}
    result: dict[str, Tensor] = {}

    def take(new: str, old: str, axes: Axes, extents: Extents) -> None:
        result[new] = _leading(weights[old], axes, extents, old)

    def take_shared(*parts: Part) -> None:
        for part in parts:
            for name, axes in part.parameters.items():
                if name in weights and part.within(whole):
                    take(name, name, axes, whole)

    take_shared(*EMBEDDINGS)
    for new, old, layer in zip(labels, architecture.labels, architecture.layers, strict=True):
        for part in layer_parts(layer):
            for name, axes in part.parameters.items():
                take(layer_name(new, name), layer_name(old, name), axes, {**whole, **widths(layer)})
    take_shared(RELATIVE_BIAS, POOLER, PROJECTION)
    return result


def _leading(tensor: Tensor, axes: Axes, extents: Extents, name: str) -> Tensor:
    wanted = [extents.get(axis, size) for axis, size in zip(axes, tensor.shape, strict=True)]
    # A slice beyond the end would give what is there, and say nothing.
    assert all(size <= there for size, there in zip(wanted, tensor.shape, strict=True)), (name, wanted, tensor.shape)
    return tensor[tuple(slice(size) for size in wanted)].contiguous()
