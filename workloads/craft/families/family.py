"""The interface of a family of teachers; code outside the families never depends on which one it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from workloads.craft.signals import Batch, Signals, Wants
from workloads.shapes.architecture import Architecture, TeacherShape

Head = Literal["masked-lm", "classification", "token-classification"]
"""Heads of the stock classes."""
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


class Family(Protocol):
    """The functions that every family provides.

    Canonical weight names (``i`` counts layers from 0): ``embeddings.word`` ``[V, H]``, ``embeddings.position``,
    ``embeddings.token_type`` (if the family has them), ``embeddings.norm.weight|bias``;
    ``layers.{i}.query|key|value|attention_output|attention_norm|intermediate|output|output_norm.weight|bias``;
    ``relative_bias`` ``[buckets, heads]`` (if the family has one); ``pooler.weight|bias`` (if the checkpoint
    has one). Linear weights are ``[outputs, inputs]``.
    """

    @property
    def name(self) -> str:
        """The ``model_type`` of its configurations."""
        ...

    def load(self, folder: Path, head: Head | None = None) -> PreTrainedModel:
        """Load a frozen teacher: the stock class, float32, evaluation mode, no gradients.

        Args:
            folder: A folder that :func:`workloads.shapes.teacher_files.check_teacher` passes.
            head: Which head to load with it.

        Raises:
            InputError: The weights do not fit the configuration, or lack the head.
        """
        ...

    def read(self, model: PreTrainedModel, batch: Batch, wants: Wants) -> Signals:
        """Run the model as far as needed, and return the wanted signals.

        They have the model's widths; queries, keys and values are ``[B, L, A]``, before the split into heads.
        """
        ...

    def weights(self, model: PreTrainedModel) -> dict[str, Tensor]:
        """Return the weights of encoder and classifier by canonical name; they share the model's memory."""
        ...

    def shape(self, model: PreTrainedModel) -> TeacherShape:
        """Return the dimensions of a loaded model."""
        ...

    def facts(self, config: PreTrainedConfig) -> Facts:
        """Return the settings of a configuration that a forward pass needs."""
        ...

    def classifier(self, config: PreTrainedConfig) -> PreTrainedModel:
        """Build a model of the family with a classification head; its weights are random."""
        ...

    def student(
        self,
        teacher_config: PreTrainedConfig,
        architecture: Architecture,
        weights: dict[str, Tensor],
        head: Head | None = None,
    ) -> PreTrainedModel:
        """Build a model of the family with a student's shape, in evaluation mode.

        Args:
            teacher_config: The configuration that the student's is derived from; it may be another family's.
            architecture: The student's shape.
            weights: Canonical weights of the student, layers numbered from 0; all of them are used.
            head: The head of its class, whose weights are among them; labels are those of the teacher's configuration.
        """
        ...
