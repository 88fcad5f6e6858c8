"""Signals: intermediate and final outputs of a teacher or a student for a batch.

Shape letters: B rows, L tokens, A attention width (heads x head width), H hidden size, F feed-forward width.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Token rows as input of a model.

    Attributes:
        input_ids_BL: int64 token ids.
        mask_BL: bool, True at real tokens; None if no row has padding.
        token_types_BL: int64, or None for zeros (and for families without token types).
    """

    input_ids_BL: Tensor
    mask_BL: Tensor | None = None
    token_types_BL: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        moved = (None if part is None else part.to(device, non_blocking=True) for part in self._parts())
        return Batch(*moved)  # type: ignore[arg-type]

    def rows(self, rows: range) -> Batch:
        """Return some consecutive rows of the batch."""
        part = slice(rows.start, rows.stop)
        return Batch(*(None if one is None else one[part] for one in self._parts()))  # type: ignore[arg-type]

    def _parts(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        return self.input_ids_BL, self.mask_BL, self.token_types_BL


@dataclass(frozen=True)
class Wants:
    """Signals to compute and keep.

    Attributes:
        relations: Layers, from 1, whose queries, keys and values are wanted. Attention scores follow from them.
        hidden: Layers whose outputs are wanted; 0 is the embeddings' output.
        insides: Layers of a teacher, from 1, whose heads' contexts and feed-forward pre-activations are wanted.
        output: Whether the last layer's output is wanted.
        head: Whether the head's output is wanted (the model must have been opened with a head).
    """

    relations: frozenset[int] = frozenset()
    hidden: frozenset[int] = frozenset()
    insides: frozenset[int] = frozenset()
    output: bool = False
    head: bool = False

    def __or__(self, other: Wants) -> Wants:
        """Return the union of two sets of wanted signals."""
        return Wants(
            self.relations | other.relations,
            self.hidden | other.hidden,
            self.insides | other.insides,
            self.output or other.output,
            self.head or other.head,
        )


@dataclass(frozen=True)
class Signals:
    """Signals of a model; layers are numbered as in :class:`Wants`.

    Attributes:
        queries: By layer, the projected queries, all heads side by side, ``[B, L, A]``.
        keys: The same for keys.
        values: The same for values.
        hidden: By layer, its output, ``[B, L, H]``.
        contexts: By layer, the attention-weighted values, all heads side by side, ``[B, L, A]``.
        inner: By layer, the input of the feed-forward activation, ``[B, L, F]``.
        output_BLH: The last layer's output.
        head: The head's output: logits ``[B, classes]``, ``[B, L, classes]`` or ``[B, L, vocabulary]``, or vectors
            ``[B, dimensions]``.
        layers: Number of layers of the model.
    """

    queries: dict[int, Tensor] = field(default_factory=dict)
    keys: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)
    hidden: dict[int, Tensor] = field(default_factory=dict)
    contexts: dict[int, Tensor] = field(default_factory=dict)
    inner: dict[int, Tensor] = field(default_factory=dict)
    output_BLH: Tensor | None = None
    head: Tensor | None = None
    layers: int = 0

    def to(self, device: torch.device) -> Signals:
        """Return the signals on a device."""

        def moved(part: dict[int, Tensor]) -> dict[int, Tensor]:
            return {layer: x.to(device, non_blocking=True) for layer, x in part.items()}

        whole = (self.output_BLH, self.head)
        output, head = (None if x is None else x.to(device, non_blocking=True) for x in whole)
        return Signals(
            moved(self.queries),
            moved(self.keys),
            moved(self.values),
            moved(self.hidden),
            moved(self.contexts),
            moved(self.inner),
            output,
            head,
            self.layers,
        )
