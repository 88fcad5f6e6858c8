"""Facts of a teacher's configuration; light to import, since workers without a teacher have them too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

PositionCounting = Literal["from-zero", "after-padding"]


@dataclass(frozen=True, slots=True)
class Facts:
    """Settings of the configuration that a forward pass needs beside the dimensions.

    Attributes:
        layer_norm_eps: Epsilon of every LayerNorm.
        activation: Name of the feed-forward activation in ``transformers.activations.ACT2FN``.
        pad_token_id: The padding id, from which some families count positions.
        position_counting: ``from-zero`` counts all tokens from 0, ``after-padding`` only real tokens, from
            ``pad_token_id + 1``.
        buckets: Maps a length to the relative-bias bucket of each query (row) and key (column), int64 ``[L, L]``;
            None if the family has no such bias.
    """

    layer_norm_eps: float
    activation: str
    pad_token_id: int
    position_counting: PositionCounting
    buckets: Callable[[int], Tensor] | None = None

    def positions(self, input_ids_BL: Tensor) -> Tensor:
        """Return position ids ``[B, L]``, or ``[1, L]`` if all rows have the same."""
        if self.position_counting == "from-zero":
            return torch.arange(input_ids_BL.shape[1], device=input_ids_BL.device)[None]
        real_BL = input_ids_BL.ne(self.pad_token_id)
        return torch.cumsum(real_BL, dim=1) * real_BL + self.pad_token_id

    def relative_buckets(self, length: int) -> Tensor | None:
        """Return the relative-bias buckets of a length, ``[L, L]``; None if there is no such bias."""
        return None if self.buckets is None else self.buckets(length)

    @property
    def reserved_positions(self) -> int:
        """Rows of the position table before that of the first token."""
        return 0 if self.position_counting == "from-zero" else self.pad_token_id + 1
