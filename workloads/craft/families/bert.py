"""BERT (arXiv 1810.04805): learned positions from 0, token types, a tanh pooler."""

from __future__ import annotations

from transformers import BertForMaskedLM, BertForSequenceClassification, BertForTokenClassification, BertModel

from workloads.craft.families.encoder import Encoder
from workloads.shapes.layouts import BERT_LAYOUT

BERT = Encoder(
    name="bert",
    classes={
        None: BertModel,
        "masked-lm": BertForMaskedLM,
        "classification": BertForSequenceClassification,
        "token-classification": BertForTokenClassification,
    },
    layout=BERT_LAYOUT,
    position_counting="from-zero",
)
