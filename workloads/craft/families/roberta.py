"""RoBERTa (arXiv 1907.11692) and XLM-R (arXiv 1911.02116): BERT's layers, positions counted over real tokens."""

from __future__ import annotations

from transformers import (
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    RobertaModel,
    XLMRobertaForMaskedLM,
    XLMRobertaForSequenceClassification,
    XLMRobertaModel,
)

from workloads.craft.families.encoder import Encoder
from workloads.shapes.layouts import BERT_LAYOUT

ROBERTA = Encoder(
    name="roberta",
    classes={None: RobertaModel, "masked-lm": RobertaForMaskedLM, "classification": RobertaForSequenceClassification},
    layout=BERT_LAYOUT,
    position_counting="after-padding",
)

XLM_ROBERTA = Encoder(
    name="xlm-roberta",
    classes={
        None: XLMRobertaModel,
        "masked-lm": XLMRobertaForMaskedLM,
        "classification": XLMRobertaForSequenceClassification,
    },
    layout=BERT_LAYOUT,
    position_counting="after-padding",
)
