"""The SuperLM: one weight-sharing Transformer encoder that holds every student of a sub-space.

Its weights are the teacher's, cut to the largest student (AutoDistil, section 3). A subnet uses the leading rows and
columns of every table and matrix: the first heads, neurons and hidden dimensions, in teacher layers spread evenly.

Shape letters: B rows, L tokens, H hidden size of the subnet, A attention width, N heads, D head width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.craft.activations import activation_of
from workloads.craft.cutting import cut, cut_student, with_fresh_layers
from workloads.craft.dropout import Dropout
from workloads.craft.elastic import FlatParameters, embedding, layer_norm, linear, linears
from workloads.craft.heads import run_head
from workloads.craft.signals import Batch, Signals, Wants
from workloads.shapes.architecture import Architecture
from workloads.shapes.heads import Head
from workloads.shapes.parameters import place_of
from workloads.shapes.search_space import Space


@dataclass(frozen=True)
class Wiring:
    """Settings of a family that a forward pass needs beside the weights.

    Attributes:
        layer_norm_eps: Epsilon of every LayerNorm.
        activation: Name of the feed-forward activation, as in the teacher's configuration.
        positions: Maps ``input_ids`` ``[B, L]`` to position ids, ``[B, L]`` or ``[1, L]``.
        relative_buckets: Maps a length L to the bucket of each query-key distance, ``[L, L]``; to None in families
            without a relative bias.
        head: The head of every student; None for encoders alone.
    """

    layer_norm_eps: float
    activation: str
    positions: Callable[[Tensor], Tensor]
    relative_buckets: Callable[[int], Tensor | None]
    head: Head | None = None


class SuperLM(nn.Module):
    """Every student of one sub-space, in one set of weights.

    Args:
        weights: Canonical weights of the sub-space's extents; layers are named by the teacher's numbers.
        wiring: Settings of the teacher's family.
    """

    def __init__(self, weights: dict[str, Tensor], wiring: Wiring) -> None:
        super().__init__()
        self.flat = FlatParameters(weights)
        self.wiring = wiring
        self._activation = activation_of(wiring.activation)

    @classmethod
    def from_teacher(cls, teacher: dict[str, Tensor], space: Space, wiring: Wiring) -> SuperLM:
        """Cut the teacher's (ordered) canonical weights, or a wider SuperLM's, to the extents of a sub-space.

        Layers that no member of the sub-space starts from are left out. Layers without a source start at random.
        """
        extents = space.extents
        if any(layer.source is None for layer in extents.layers):
            teacher = with_fresh_layers(teacher, extents)
        return cls(cut(teacher, extents, extents.labels), wiring)

    def forward(
        self, batch: Batch, architecture: Architecture, wants: Wants, dropout: Dropout | None = None
    ) -> Signals:
        """Run one subnet as far as ``wants`` needs.

        Args:
            batch: Token rows ``[B, L]``.
            architecture: The subnet.
            wants: The signals to return; layers are numbered as in the subnet.
            dropout: Masks for these rows and this subnet, applied where BERT applies dropout; None for no dropout.

        Returns:
            The signals, in the widths of the subnet.
        """
        queries: dict[int, Tensor] = {}
        keys: dict[int, Tensor] = {}
        values: dict[int, Tensor] = {}
        hidden: dict[int, Tensor] = {}
        x_BLH = self._embed(batch, architecture.hidden_size)
        if dropout is not None:
            x_BLH = dropout.embeddings(x_BLH)
        if 0 in wants.hidden:
            hidden[0] = x_BLH
        bias = self._attention_bias(batch, max(layer.heads for layer in architecture.layers), x_BLH.dtype)
        through = len(architecture.layers) if wants.output or wants.head else max(wants.hidden, default=0)
        projected_last = max(wants.relations, default=0)
        for number, layer in enumerate(architecture.layers, start=1):
            if number > max(through, projected_last):
                break
            # A part without heads or neurons is skipped with its bias and its norm.
            projected = self._project(x_BLH, architecture, number - 1) if layer.heads else None
            if number in wants.relations:
                assert projected is not None, f"layer {number} has no heads and so no relations"
                queries[number], keys[number], values[number] = projected
            if number > through and number >= projected_last:
                break  # nothing wanted lies beyond these projections
            if projected is not None:
                x_BLH = self._attend(x_BLH, projected, architecture, number - 1, bias, dropout)
            if layer.intermediate_size:
                x_BLH = self._feed_forward(x_BLH, architecture, number - 1, dropout)
            if number in wants.hidden:
                hidden[number] = x_BLH
        output = x_BLH if wants.output else None
        head = self._head(x_BLH, batch.mask_BL) if wants.head else None
        return Signals(queries, keys, values, hidden, output_BLH=output, head=head, layers=len(architecture.layers))

    def learned_map(self, name: str, x_BH: Tensor) -> Tensor:
        """Apply a learned map to a subnet's hidden states ``[..., H]``: ``[..., outputs of the map]``."""
        weight = self.flat[f"{name}.weight"]
        return linear(x_BH, weight, self.flat[f"{name}.bias"], weight.shape[0])

    @property
    def projects(self) -> bool:
        """Whether the weights hold a learned map of the output to the teacher's width."""
        return "projection.weight" in self.flat

    @torch.no_grad()
    def extract(self, architecture: Architecture) -> dict[str, Tensor]:
        """Cut out the canonical weights of one student, layers numbered from 0.

        A learned projection is among them as ``projection.weight`` ``[H_teacher, H]`` and ``projection.bias``.
        """
        weights = {name: self.flat[name].detach() for name in self.flat.shapes}
        return cut_student(weights, architecture)

    def _embed(self, batch: Batch, hidden: int) -> Tensor:
        ids_BL = batch.input_ids_BL
        x_BLH = embedding(ids_BL, self.flat["embeddings.word"], hidden)
        if "embeddings.token_type" in self.flat:
            types = batch.token_types_BL
            if types is None:
                types = torch.zeros(1, 1, dtype=torch.long, device=ids_BL.device)
            x_BLH = x_BLH + embedding(types, self.flat["embeddings.token_type"], hidden)
        # After the token types, as the stock classes add them: low precision keeps the order.
        x_BLH = x_BLH + embedding(self.wiring.positions(ids_BL), self.flat["embeddings.position"], hidden)
        return self._norm(x_BLH, "embeddings.norm")

    def _attention_bias(self, batch: Batch, heads: int, dtype: torch.dtype) -> Tensor | None:
        """Return the mask ``[B, 1, 1, L]``, or the relative bias (masked) ``[B or 1, N, L, L]``; None without both."""
        mask = None if batch.mask_BL is None else batch.mask_BL[:, None, None, :]
        length = batch.input_ids_BL.shape[1]
        buckets = self.wiring.relative_buckets(length)
        if buckets is None or heads == 0:
            return mask
        table = self.flat["relative_bias"][:, :heads]
        bias = F.embedding(buckets.to(table.device), table).permute(2, 0, 1)[None].to(dtype)
        return bias if mask is None else bias.masked_fill(~mask, torch.finfo(dtype).min)

    def _project(self, x_BLH: Tensor, architecture: Architecture, index: int) -> tuple[Tensor, Tensor, Tensor]:
        layer, prefix = architecture.layers[index], f"layers.{architecture.labels[index]}"
        names = [f"{prefix}.{part}" for part in ("query", "key", "value")]
        layers = [(self.flat[f"{name}.weight"], self.flat[f"{name}.bias"]) for name in names]
        q_BLA, k_BLA, v_BLA = linears(x_BLH, layers, layer.heads * layer.head_width)
        return q_BLA, k_BLA, v_BLA

    def _attend(
        self,
        x_BLH: Tensor,
        projected: tuple[Tensor, Tensor, Tensor],
        architecture: Architecture,
        index: int,
        bias: Tensor | None,
        dropout: Dropout | None,
    ) -> Tensor:
        layer, prefix = architecture.layers[index], f"layers.{architecture.labels[index]}"
        shape = (*x_BLH.shape[:2], layer.heads, layer.head_width)
        q_BNLD, k_BNLD, v_BNLD = (part.view(shape).transpose(1, 2) for part in projected)
        if bias is not None and bias.shape[1] > layer.heads:
            bias = bias[:, : layer.heads]
        if dropout is None:
            context_BNLD = F.scaled_dot_product_attention(q_BNLD, k_BNLD, v_BNLD, attn_mask=bias)
        else:
            # The fused kernels draw dropout from the device's global generator, by their own layout of the rows.
            probabilities = _attention(q_BNLD, k_BNLD, bias).to(v_BNLD.dtype)
            context_BNLD = dropout.attention(probabilities, index) @ v_BNLD
        context_BLA = context_BNLD.transpose(1, 2).reshape(projected[0].shape)
        attended = self._linear(context_BLA, f"{prefix}.attention_output", x_BLH.shape[-1])
        if dropout is not None:
            attended = dropout.attention_output(attended, index)
        return self._norm(attended + x_BLH, f"{prefix}.attention_norm")

    def _feed_forward(self, x_BLH: Tensor, architecture: Architecture, index: int, dropout: Dropout | None) -> Tensor:
        layer, prefix = architecture.layers[index], f"layers.{architecture.labels[index]}"
        activation = self._activation if architecture.activation is None else activation_of(architecture.activation)
        inner = activation(self._linear(x_BLH, f"{prefix}.intermediate", layer.intermediate_size))
        fed = self._linear(inner, f"{prefix}.output", x_BLH.shape[-1])
        if dropout is not None:
            fed = dropout.output(fed, index)
        return self._norm(fed + x_BLH, f"{prefix}.output_norm")

    def _head(self, x_BLH: Tensor, mask_BL: Tensor | None) -> Tensor:
        assert self.wiring.head is not None, "the SuperLM has no head"

        def linear_of(name: str, x: Tensor) -> Tensor:
            weight = self.flat[f"{name}.weight"]
            # The pooler's outputs are hidden dimensions, of which the subnet has the leading ones; others are whole.
            cut = place_of(f"{name}.weight").axes[0] == "hidden"
            return self._linear(x, name, x.shape[-1] if cut else weight.shape[0])

        return run_head(self.wiring.head, x_BLH, mask_BL, linear_of)

    def _linear(self, x: Tensor, name: str, outputs: int) -> Tensor:
        return linear(x, self.flat[f"{name}.weight"], self.flat[f"{name}.bias"], outputs)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return layer_norm(x, self.flat[f"{name}.weight"], self.flat[f"{name}.bias"], self.wiring.layer_norm_eps)


def _attention(q_BNLD: Tensor, k_BNLD: Tensor, bias: Tensor | None) -> Tensor:
    """Return the attention probabilities ``[B, N, L, L]``; ``bias`` masks the scores (bool) or is added to them."""
    scores = (q_BNLD * (1 / math.sqrt(q_BNLD.shape[-1]))) @ k_BNLD.transpose(-1, -2)
    if bias is not None:
        masks = bias.dtype == torch.bool
        scores = scores.masked_fill(~bias, torch.finfo(scores.dtype).min) if masks else scores + bias
    return scores.softmax(-1)
