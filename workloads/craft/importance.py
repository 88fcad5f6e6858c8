"""Importance: which heads, neurons and hidden dimensions matter, so that leading slices keep the best.

Reordering changes no output of the full-size model; it only decides which parts a leading slice keeps.
Importance is measured on a few batches of training text, without labels:

- of a neuron: its mean absolute activation times the norm of its outgoing weights;
- of a head: the mean norm of its contribution to the residual stream;
- of a hidden dimension: its root mean square over the outputs of all layers, times the norm of the weights that
  read it.

Shape letters: B rows, L tokens of a row, T real tokens, H hidden size, A attention width, N heads, D head width,
F feed-forward width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workloads.craft.activations import activation_of
from workloads.craft.signals import Batch, Wants
from workloads.shapes.parameters import Axis, place_of

if TYPE_CHECKING:
    from workloads.craft.teacher import Teacher

ROWS_AT_ONCE = 32
"""Most rows whose signals of all layers are in memory together."""


@dataclass(frozen=True)
class Order:
    """New orders of hidden dimensions, heads and neurons: entry i is the old index that comes i-th.

    Attributes:
        hidden: ``[H]``, one order for the whole residual stream.
        heads: By layer, ``[N]``; the same in all layers if they share a relative bias.
        neurons: By layer, ``[F]``.
        head_width: Width of a head.
    """

    hidden: Tensor
    heads: tuple[Tensor, ...]
    neurons: tuple[Tensor, ...]
    head_width: int

    def width_order(self, layer: int) -> Tensor:
        """Return the order of a layer's attention width ``[A]`` that follows from the order of its heads."""
        offsets = torch.arange(self.head_width)
        return (self.heads[layer][:, None] * self.head_width + offsets).reshape(-1)

    def along(self, axis: Axis, layer: int) -> Tensor | None:
        """Return the order along an axis of a layer's weights; None if the axis is not reordered."""
        if axis == "attention":
            return self.width_order(layer)
        if axis == "heads":  # of a relative bias, which all layers share
            return max(self.heads, key=len)
        return {"hidden": self.hidden, "ffn": self.neurons[layer]}.get(axis)


@dataclass(frozen=True)
class Importance:
    """Importance of each part; larger is more important.

    Attributes:
        hidden: ``[H]``.
        heads: By layer, ``[N]``.
        neurons: By layer, ``[F]``.
    """

    hidden: Tensor
    heads: tuple[Tensor, ...]
    neurons: tuple[Tensor, ...]


def importance_order(teacher: Teacher, batches: Iterable[Batch]) -> Order:
    """Measure the teacher on ``batches`` and order its parts, the most important first."""
    found = measure_importance(teacher, batches)
    return Order(
        hidden=torch.argsort(found.hidden, descending=True, stable=True),
        heads=tuple(torch.argsort(row, descending=True, stable=True) for row in found.heads),
        neurons=tuple(torch.argsort(row, descending=True, stable=True) for row in found.neurons),
        head_width=teacher.shape.head_width,
    )


@torch.no_grad()
def measure_importance(teacher: Teacher, batches: Iterable[Batch]) -> Importance:
    """Measure the teacher on ``batches``, on its own device; padded positions do not count."""
    shape, weights, device = teacher.shape, teacher.weights, teacher.model.device
    layers = shape.architecture.layers
    hidden_power = torch.zeros(shape.hidden_size, device=device)
    heads = [torch.zeros(layer.heads, device=device) for layer in layers]
    neurons = [torch.zeros(layer.intermediate_size, device=device) for layer in layers]
    products = {
        index: _products(weights[f"layers.{index}.attention_output.weight"], layer.heads)
        for index, layer in enumerate(layers)
        if layer.heads
    }
    for batch in batches:
        count = len(batch.input_ids_BL)
        for start in range(0, count, ROWS_AT_ONCE):
            part = batch.rows(range(start, min(start + ROWS_AT_ONCE, count))).to(device)
            _add_rows(teacher, part, products, hidden_power, heads, neurons)
    readers = torch.zeros(shape.hidden_size, device=device)
    for index in range(len(layers)):
        for reader in ("query", "key", "value", "intermediate"):
            if (name := f"layers.{index}.{reader}.weight") in weights:
                readers += weights[name].square().sum(0)
        if len(neurons[index]):
            neurons[index] *= weights[f"layers.{index}.output.weight"].norm(dim=0)
    if shape.vocabulary.relative_buckets:
        heads = _shared_importance(heads)
    hidden = (hidden_power.sqrt() * readers.sqrt()).cpu()
    return Importance(hidden, tuple(one.cpu() for one in heads), tuple(one.cpu() for one in neurons))


def _shared_importance(heads: list[Tensor]) -> list[Tensor]:
    """Give the heads of all layers the same importance, since one relative bias serves them all.

    Layers with different numbers of heads each use the first columns of the bias, so no head may move: all are given
    the importance 0.
    """
    if len({len(one) for one in heads}) > 1:
        return [torch.zeros_like(one) for one in heads]
    mean = torch.stack(heads).mean(0)
    return [mean] * len(heads)


def _products(weight_HA: Tensor, heads: int) -> Tensor:
    """Return ``W_n' W_n`` for each head's columns ``W_n`` of the output projection, ``[N, D, D]``."""
    weight_HND = weight_HA.view(weight_HA.shape[0], heads, -1)
    return torch.einsum("hnd,hne->nde", weight_HND, weight_HND)


def _add_rows(
    teacher: Teacher,
    part: Batch,
    products: Mapping[int, Tensor],
    hidden_power: Tensor,
    heads: Sequence[Tensor],
    neurons: Sequence[Tensor],
) -> None:
    """Add the sums over some rows: squares of the hidden dimensions, norms by head, activations by neuron."""
    activation = activation_of(teacher.facts.activation)
    numbers = frozenset(range(1, len(heads) + 1))
    signals = teacher.family.read(teacher.model, part, Wants(hidden=numbers, insides=numbers))
    mask_BL = part.mask_BL if part.mask_BL is not None else torch.ones_like(part.input_ids_BL, dtype=torch.bool)
    for number in numbers:
        hidden_power += signals.hidden[number][mask_BL].square().sum(0)
    for number, context_BLA in signals.contexts.items():  # a layer without heads has none
        index = number - 1  # as weights are named
        context_TA = context_BLA[mask_BL]
        context_TND = context_TA.view(len(context_TA), len(heads[index]), -1)
        # A head adds W c to the residual stream; |W c| is the root of c' (W' W) c, which needs no [T, N, H].
        squares_TN = (torch.einsum("tnd,nde->tne", context_TND, products[index]) * context_TND).sum(-1)
        heads[index].add_(squares_TN.clamp(min=0).sqrt().sum(0))
    for number, inner_BLF in signals.inner.items():
        neurons[number - 1].add_(activation(inner_BLF[mask_BL]).abs().sum(0))


def apply_order(weights: dict[str, Tensor], order: Order) -> dict[str, Tensor]:
    """Reorder canonical weights; their model has the same outputs, with reordered hidden dimensions."""
    new: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        place = place_of(name)
        for dimension, axis in enumerate(place.axes):
            places = order.along(axis, int(place.label or 0))
            if places is not None:
                tensor = tensor.index_select(dimension, places)
        new[name] = tensor
    return new
