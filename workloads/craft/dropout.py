"""Dropout masks that depend on where they apply, not on what was drawn before.

A mask is a function of the seed, the sub-space, the step, the subnet, the place in the subnet and the row's number in
the whole batch. So it does not depend on which other SuperLMs are trained, on the number of workers or on
micro-batches.

The random bits of element ``i`` of row ``b`` are ``a_b * u_i + c_b`` modulo 2**32, and are compared with the
probability as a number. ``u`` is drawn once for a subnet; ``a`` (odd) and ``c`` are drawn for each place and row. This
is multiply-shift hashing (Dietzfelbinger 1996): any two elements of any two rows or places are independent but for a
chance of the order of 2**-31. On a CPU it is faster than drawing every element, as ``F.dropout`` does.

Shape letters: B rows, P places.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

PLACES_OF_LAYER = 3
"""Places in a layer: attention probabilities, output of the attention, output of the feed-forward network."""


@dataclass(frozen=True)
class DropoutKey:
    """The subnet of a step that masks are for.

    Attributes:
        seed: Seed of the training.
        space: Name of the sub-space.
        step: The global step.
        subnet: Index in the step's sandwich.
    """

    seed: int
    space: str
    step: int
    subnet: int

    def sequence(self) -> np.random.SeedSequence:
        """Return the source of all random numbers of this subnet in this step."""
        name = hashlib.blake2b(self.space.encode(), digest_size=16).digest()
        words = np.frombuffer(name, "<u4").tolist()
        return np.random.SeedSequence([self.seed, self.step, self.subnet, *words])


class Dropout:
    """The dropout of one subnet's forward over some rows of a batch.

    Args:
        probability: Probability that an element is set to zero.
        key: The subnet and the step.
        rows: Numbers of the rows in the whole batch.
        layers: Number of layers of the subnet.
        device: The device of the tensors that it is applied to.
    """

    def __init__(self, probability: float, key: DropoutKey, rows: range, layers: int, device: torch.device) -> None:
        self.probability = probability
        sequence = key.sequence()
        draw = np.random.Generator(np.random.Philox(sequence))
        places = 1 + PLACES_OF_LAYER * layers
        # Row by row, so that a row's numbers do not depend on how many rows follow.
        keys_BP2 = draw.integers(0, 1 << 32, (rows.stop, places, 2), np.uint32)[rows.start :]
        keys_BP2[..., 0] |= 1
        self._keys_2PB = torch.from_numpy(keys_BP2.view(np.int32).transpose(2, 1, 0).copy()).to(device)
        self._generator = torch.Generator(device)
        self._seed = int(sequence.generate_state(1, np.uint64)[0] >> 1)
        self._shared = torch.empty(0, dtype=torch.int32, device=device)
        self._below = round(probability * (1 << 32)) - (1 << 31)

    def embeddings(self, x: Tensor) -> Tensor:
        """Drop elements of the embeddings' output ``[B, L, H]``; the others are scaled up, as in the methods below."""
        return self._drop(x, 0)

    def attention(self, probabilities: Tensor, layer: int) -> Tensor:
        """Drop attention probabilities ``[B, N, L, L]`` of a layer of the subnet."""
        return self._drop(probabilities, 1 + PLACES_OF_LAYER * layer)

    def attention_output(self, x: Tensor, layer: int) -> Tensor:
        """Drop elements of the output ``[B, L, H]`` of a layer's attention, before the residual is added."""
        return self._drop(x, 2 + PLACES_OF_LAYER * layer)

    def output(self, x: Tensor, layer: int) -> Tensor:
        """Drop elements of the output ``[B, L, H]`` of a layer's feed-forward network, before the residual is added."""
        return self._drop(x, 3 + PLACES_OF_LAYER * layer)

    def _drop(self, x: Tensor, place: int) -> Tensor:
        size = x[0].numel()
        if self._shared.numel() < size:
            self._generator.manual_seed(self._seed)
            self._shared = torch.empty(size, dtype=torch.int32, device=x.device)
            self._shared.random_(-(1 << 31), 1 << 31, generator=self._generator)
        a_B1, c_B1 = self._keys_2PB[:, place, :, None]
        bits = (a_B1 * self._shared[:size]).add_(c_B1)
        # No booleans in between: on a CPU, comparing into them, converting them and multiplying by them each take
        # several times as long.
        keep = bits.ge_(self._below).to(x.dtype).mul_(1 / (1 - self.probability))
        dropped: Tensor = x * keep.view(x.shape)
        return dropped
