"""MPNet (arXiv 2004.09297): no token types, and one relative attention bias that all layers share."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from transformers import MPNetForMaskedLM, MPNetForSequenceClassification, MPNetForTokenClassification, MPNetModel
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

from workloads.craft.families.encoder import Encoder
from workloads.shapes.layouts import MPNET_LAYOUT


@functools.lru_cache(maxsize=16)
def _buckets(length: int) -> Tensor:
    at = torch.arange(length)
    # The stock model buckets with these defaults (32 buckets) whatever its configuration says.
    buckets: Tensor = MPNetEncoder.relative_position_bucket(at[None, :] - at[:, None])
    return buckets


MPNET = Encoder(
    name="mpnet",
    classes={
        None: MPNetModel,
        "masked-lm": MPNetForMaskedLM,
        "classification": MPNetForSequenceClassification,
        "token-classification": MPNetForTokenClassification,
    },
    layout=MPNET_LAYOUT,
    position_counting="after-padding",
    attention="eager",  # the stock model has no other
    pad_token_id=1,  # fixed in the stock model's embeddings
    buckets=_buckets,
)
