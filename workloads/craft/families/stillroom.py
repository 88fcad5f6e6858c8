"""The family of our own class: students that no stock class expresses, for export and as teachers.

The class computes the same function as one family's stock classes, with its positions, token types and relative bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from typing_extensions import override

from workloads.craft.facts import Facts
from workloads.craft.families.encoder import Encoder
from workloads.craft.families.family import Head
from workloads.craft.families.stock import STOCK
from workloads.craft.stillroom_model.configuration_stillroom import StillroomConfig
from workloads.craft.stillroom_model.modeling_stillroom import (
    StillroomForMaskedLM,
    StillroomForSequenceClassification,
    StillroomForTokenClassification,
    StillroomModel,
)
from workloads.shapes.architecture import Architecture, Vocabulary
from workloads.shapes.layouts import OWN_LAYOUT
from workloads.shapes.teacher_config import HEAD, stock_family

AUTO_MAP = {
    "AutoConfig": "configuration_stillroom.StillroomConfig",
    "AutoModel": "modeling_stillroom.StillroomModel",
    "AutoModelForMaskedLM": "modeling_stillroom.StillroomForMaskedLM",
    "AutoModelForSequenceClassification": "modeling_stillroom.StillroomForSequenceClassification",
    "AutoModelForTokenClassification": "modeling_stillroom.StillroomForTokenClassification",
}
_TOKENIZERS = {
    "bert": "BertTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "mpnet": "MPNetTokenizer",
}
"""Tokenizer class by family, as transformers chooses it by default; for our own model type it has no default."""


@dataclass(frozen=True)
class Stillroom(Encoder):
    """The family of our own class; it implements :class:`~workloads.craft.families.family.Family`."""

    @override
    def facts(self, config: PreTrainedConfig) -> Facts:
        return _stock(config).facts(config)

    @override
    def student(
        self,
        teacher_config: PreTrainedConfig,
        architecture: Architecture,
        weights: dict[str, Tensor],
        head: Head | None = None,
    ) -> PreTrainedModel:
        stock, layers = _stock(teacher_config), architecture.layers
        facts, vocabulary = stock.facts(teacher_config), stock.vocabulary(teacher_config, pooler=True)
        labels = {} if head is None else {name: getattr(teacher_config, name) for name in HEAD if name != "num_labels"}
        config = StillroomConfig(
            family=vocabulary.family,
            vocab_size=vocabulary.vocab_size,
            hidden_size=architecture.hidden_size,
            num_hidden_layers=len(layers),
            num_attention_heads=_number_or_list([layer.heads for layer in layers]),
            head_width=_number_or_list([layer.head_width for layer in layers]),
            intermediate_size=_number_or_list([layer.intermediate_size for layer in layers]),
            hidden_act=architecture.activation or facts.activation,
            hidden_dropout_prob=teacher_config.hidden_dropout_prob,
            attention_probs_dropout_prob=teacher_config.attention_probs_dropout_prob,
            max_position_embeddings=vocabulary.positions,
            position_counting=facts.position_counting,
            type_vocab_size=vocabulary.token_types,
            relative_attention_num_buckets=vocabulary.relative_buckets,
            has_pooler="pooler.weight" in weights,
            initializer_range=teacher_config.initializer_range,
            layer_norm_eps=facts.layer_norm_eps,
            pad_token_id=facts.pad_token_id,
            tokenizer_class=getattr(teacher_config, "tokenizer_class", None) or _TOKENIZERS[vocabulary.family],
            auto_map=dict(AUTO_MAP),
            **labels,
        )
        with torch.random.fork_rng(devices=[]):  # the initial values are random, and replaced below
            model = self.classes[head](config)
        return self._filled(model, weights, head)

    @override
    def architecture(self, config: PreTrainedConfig) -> Architecture:
        return Architecture.of_columns(
            config.hidden_size,
            config.num_hidden_layers,
            heads=config.num_attention_heads,
            head_width=config.head_width,
            intermediate_size=config.intermediate_size,
        )

    @override
    def vocabulary(self, config: PreTrainedConfig, *, pooler: bool) -> Vocabulary:
        return _stock(config).vocabulary(config, pooler=pooler)


STILLROOM = Stillroom(
    name=StillroomConfig.model_type,
    classes={
        None: StillroomModel,
        "masked-lm": StillroomForMaskedLM,
        "classification": StillroomForSequenceClassification,
        "token-classification": StillroomForTokenClassification,
    },
    layout=OWN_LAYOUT,
)


def _stock(config: PreTrainedConfig) -> Encoder:
    return STOCK[stock_family(config.to_dict())]


def _number_or_list(values: Sequence[int]) -> Any:
    return values[0] if len(set(values)) == 1 else list(values)
