"""Whole models: an encoder with its head, as it is saved, measured and exported.

A classifier is a class of its own in ``transformers``. An embedding model is an encoder with modules after it; here it
is one module, which computes what sentence-transformers computes from the saved folder.

Shape letters: B rows, L tokens, H hidden size, V dimensions of a vector.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from workloads.craft.families import STILLROOM, Family, family_of
from workloads.craft.heads import run_head
from workloads.craft.teacher import Teacher
from workloads.shapes.architecture import Architecture
from workloads.shapes.heads import Head, LogitsHead, VectorHead
from workloads.shapes.parameters import HEAD, LEARNED_MAPS, place_of


class EmbeddingModel(nn.Module):
    """An encoder with the modules that make a vector of its output.

    Args:
        encoder: The encoder.
        head: The modules.
        weights: Canonical weights of their Dense maps.
    """

    def __init__(self, encoder: PreTrainedModel, head: VectorHead, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head
        self.maps = nn.ModuleDict()
        for name in head.parts:
            weight = weights[f"{name}.weight"]
            self.maps[name] = nn.Linear(weight.shape[1], weight.shape[0])
            self.maps[name].load_state_dict({"weight": weight, "bias": weights[f"{name}.bias"]})
        self.eval().requires_grad_(False)

    @property
    def config(self) -> PreTrainedConfig:
        """The encoder's configuration."""
        return self.encoder.config

    def set_attn_implementation(self, name: str) -> None:
        """Choose the implementation of attention."""
        self.encoder.set_attn_implementation(name)

    def forward(self, attention_mask: Tensor | None = None, **inputs: Any) -> ModelOutput:
        """Return the encoder's output ``[B, L, H]`` and the vectors ``[B, V]``."""
        inputs["return_dict"] = True
        x_BLH = self.encoder(attention_mask=attention_mask, **inputs).last_hidden_state
        vectors_BV = run_head(self.head, x_BLH, attention_mask, lambda name, x: cast(Tensor, self.maps[name](x)))
        return ModelOutput(last_hidden_state=x_BLH, sentence_embedding=vectors_BV)


WholeModel: TypeAlias = PreTrainedModel | EmbeddingModel


@functools.singledispatch
def whole_model(head: Head | None, family: Family, teacher: Teacher, shape: Architecture, weights: Any) -> WholeModel:
    """Build a whole student in evaluation mode.

    Args:
        head: The students' head; None for encoders alone.
        family: The family of its class.
        teacher: The teacher, whose configuration the student's is derived from.
        shape: The student's shape.
        weights: Canonical weights of the student, without learned maps.
    """
    assert head is None, type(head)
    return family.student(teacher.config, shape, weights)


@whole_model.register
def _classifier(head: LogitsHead, family: Family, teacher: Teacher, shape: Architecture, weights: Any) -> WholeModel:
    return family.student(teacher.config, shape, weights, head.kind)


@whole_model.register
def _embedding(head: VectorHead, family: Family, teacher: Teacher, shape: Architecture, weights: Any) -> WholeModel:
    encoder = {name: tensor for name, tensor in weights.items() if place_of(name).part not in HEAD}
    return EmbeddingModel(family.student(teacher.config, shape, encoder), head, weights)


def build_whole(teacher: Teacher, architecture: Architecture, weights: Mapping[str, Tensor]) -> WholeModel:
    """Build the whole student, of a stock class if the shape allows it, in evaluation mode.

    Args:
        teacher: The teacher, whose configuration the student's is derived from.
        architecture: The student's shape.
        weights: Canonical weights of the student, layers numbered from 0; learned maps among them are left out.
    """
    own = {name: tensor for name, tensor in weights.items() if place_of(name).part not in LEARNED_MAPS}
    family = family_of(teacher.shape.vocabulary.family) if architecture.stock else STILLROOM
    return whole_model(teacher.shape.head, family, teacher, architecture, own)


def whole_of(opened: Teacher) -> WholeModel:
    """Return an opened teacher, or student, as one model."""
    if opened.modules is None:
        return opened.model
    return EmbeddingModel(opened.model, opened.modules.head, opened.modules.weights)
