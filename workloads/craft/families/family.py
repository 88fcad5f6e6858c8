"""The interface of a family of teachers; code outside the families never depends on which one it is."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from workloads.craft.facts import Facts
from workloads.craft.signals import Batch, Signals, Wants
from workloads.shapes.architecture import Architecture, TeacherShape

Head = Literal["masked-lm", "classification", "token-classification"]
"""Heads of the stock classes."""


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
