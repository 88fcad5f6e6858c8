"""RoBERTa (arXiv 1907.11692) and XLM-R (arXiv 1911.02116): BERT's layers, positions counted over real tokens."""

from __future__ import annotations

from transformers import (
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
    XLMRobertaForMaskedLM,
    XLMRobertaForSequenceClassification,
    XLMRobertaForTokenClassification,
    XLMRobertaModel,
)

from workloads.craft.families.encoder import Encoder
from workloads.shapes.layouts import ROBERTA_LAYOUT

ROBERTA = Encoder(
    name="roberta",
    classes={
        None: RobertaModel,
        "masked-lm": RobertaForMaskedLM,
        "classification": RobertaForSequenceClassification,
        "token-classification": RobertaForTokenClassification,
    },
    layout=ROBERTA_LAYOUT,
    position_counting="after-padding",
)

XLM_ROBERTA = Encoder(
    name="xlm-roberta",
    classes={
        None: XLMRobertaModel,
        "masked-lm": XLMRobertaForMaskedLM,
        "classification": XLMRobertaForSequenceClassification,
        "token-classification": XLMRobertaForTokenClassification,
    },
    layout=ROBERTA_LAYOUT,
    position_counting="after-padding",
)
