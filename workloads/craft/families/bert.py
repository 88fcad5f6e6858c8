"""BERT (arXiv 1810.04805): learned positions from 0, token types, a tanh pooler."""

from __future__ import annotations

from transformers import BertForMaskedLM, BertForSequenceClassification, BertModel

from workloads.craft.families.encoder import Encoder, Layout

LAYOUT = Layout(
    shared={
        "embeddings.word": "embeddings.word_embeddings",
        "embeddings.position": "embeddings.position_embeddings",
        "embeddings.token_type": "embeddings.token_type_embeddings",
        "embeddings.norm": "embeddings.LayerNorm",
        "pooler": "pooler.dense",
    },
    layer={
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attention_output": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "intermediate": "intermediate.dense",
        "output": "output.dense",
        "output_norm": "output.LayerNorm",
    },
)

BERT = Encoder(
    name="bert",
    classes={None: BertModel, "masked-lm": BertForMaskedLM, "classification": BertForSequenceClassification},
    layout=LAYOUT,
    position_counting="from-zero",
)
