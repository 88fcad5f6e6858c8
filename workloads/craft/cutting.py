"""Cutting weights to a shape: leading rows and columns along every axis that the shape has (AutoDistil, section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from workloads.shapes.architecture import Architecture
from workloads.shapes.parameters import (
    EMBEDDINGS,
    HEAD,
    LEARNED_MAPS,
    POOLER,
    RELATIVE_BIAS,
    Axes,
    Extents,
    Part,
    layer_name,
    layer_parts,
    place_of,
    widths,
)

INITIAL_STD = 0.02


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
                if name in weights and part.exists_in(whole):
                    take(name, name, axes, whole)

    take_shared(*EMBEDDINGS)
    for new, old, layer in zip(labels, architecture.labels, architecture.layers, strict=True):
        for part in layer_parts(layer):
            for name, axes in part.parameters.items():
                take(layer_name(new, name), layer_name(old, name), axes, {**whole, **widths(layer)})
    take_shared(RELATIVE_BIAS, POOLER, *HEAD, *LEARNED_MAPS)
    return result


def with_fresh_layers(weights: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """Replace the layers of the weights by random ones of an architecture's widths, the same at every call.

    Matrices are initialised as in BERT (normal, standard deviation 0.02), norms with ones, and biases with zeros.
    """
    draw = torch.Generator().manual_seed(0)
    fresh = {name: tensor for name, tensor in weights.items() if place_of(name).label is None}
    for label, layer in zip(architecture.labels, architecture.layers, strict=True):
        extents: Extents = {"hidden": architecture.hidden_size, **widths(layer)}
        for part in layer_parts(layer):
            for name, axes in part.parameters.items():
                tensor = torch.zeros(tuple(extents[axis] for axis in axes))
                if part.kind == "linear" and name.endswith(".weight"):
                    tensor.normal_(0, INITIAL_STD, generator=draw)
                elif name.endswith(".weight"):
                    tensor.fill_(1)
                fresh[layer_name(label, name)] = tensor
    return fresh


def _leading(tensor: Tensor, axes: Axes, extents: Extents, name: str) -> Tensor:
    wanted = [extents.get(axis, size) for axis, size in zip(axes, tensor.shape, strict=True)]
    # Python cuts a slice at the end of the axis without an error.
    assert all(size <= there for size, there in zip(wanted, tensor.shape, strict=True)), (name, wanted, tensor.shape)
    return tensor[tuple(slice(size) for size in wanted)].contiguous()
